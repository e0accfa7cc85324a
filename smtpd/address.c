/* Addresses of clients: see the header. */
#include "smtpd/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

struct address address_from(const struct sockaddr *sockaddr)
{
    struct address address = {0};

    if (sockaddr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sockaddr;
        memcpy(address.bytes, mapped_prefix, sizeof mapped_prefix);
        memcpy(address.bytes + sizeof mapped_prefix, &v4->sin_addr, 4);
        address.port = ntohs(v4->sin_port);
    } else if (sockaddr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sockaddr;
        memcpy(address.bytes, &v6->sin6_addr, sizeof address.bytes);
        address.port = ntohs(v6->sin6_port);
    }
    return address;
}

bool address_is_ipv4(const struct address *address)
{
    return memcmp(address->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

void address_text(const struct address *address, char text[static ADDRESS_TEXT_SIZE])
{
    if (address_is_ipv4(address))
        inet_ntop(AF_INET, address->bytes + sizeof mapped_prefix, text, ADDRESS_TEXT_SIZE);
    else
        inet_ntop(AF_INET6, address->bytes, text, ADDRESS_TEXT_SIZE);
}

void address_literal(const struct address *address, char literal[static ADDRESS_LITERAL_SIZE])
{
    char text[ADDRESS_TEXT_SIZE];

    address_text(address, text);
    snprintf(literal, ADDRESS_LITERAL_SIZE, "[%s%s]",
             address_is_ipv4(address) ? "" : "IPv6:", text);
}

struct address address_client(const struct address *address)
{
    struct address client = *address;

    client.port = 0;
    if (!address_is_ipv4(address))
        memset(client.bytes + 8, 0, 8);
    return client;
}
