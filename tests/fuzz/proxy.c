/* What a load balancer may say, and who is one: the header of the PROXY protocol at the start of the
 * input, and networks, a line each. */
#include "smtpd/proxy.h"
#include "smtpd/networks.h"

#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum { NETWORKS_MAX = 16, ENTRY_MAX = 64 };

static const char line_start[] = "PROXY ";
static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
enum { LINE_START = sizeof line_start - 1, SIGNATURE = sizeof signature - 1, HEAD = SIGNATURE + 4 };

static bool same_address(const struct address *a, const struct address *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0 && a->port == b->port;
}

/* Feeds the header in pieces, to its end or the input's; returns the octets used. */
static size_t feed(enum fuzz_cut cut, const char *bytes, size_t length, struct proxy *proxy,
                   enum proxy_status *status)
{
    size_t at = 0;

    *proxy = (struct proxy){0};
    *status = PROXY_PARTIAL;
    while (at < length && *status == PROXY_PARTIAL) {
        size_t piece = fuzz_piece(cut, bytes + at, length - at), used;
        char octet[1], *exact = fuzz_hold(bytes + at, piece, octet);

        used = proxy_feed(proxy, exact, piece, status);
        LAW(*status == PROXY_PARTIAL ? used == piece : used > 0 && used <= piece);
        fuzz_let_go(exact, octet);
        at += used;
    }
    return at;
}

static void check_cuts(const char *bytes, size_t length, const struct proxy *want,
                       enum proxy_status status, size_t used)
{
    for (enum fuzz_cut cut = FUZZ_OCTETS; cut < FUZZ_CUT_COUNT; cut++) {
        enum proxy_status other;
        struct proxy proxy;

        LAW(feed(cut, bytes, length, &proxy, &other) == used && other == status);
        if (status == PROXY_BAD)
            LAW(strcmp(proxy.reason, want->reason) == 0);
        if (status == PROXY_DONE)
            LAW(proxy.local == want->local && same_address(&proxy.client, &want->client));
    }
}

/* Where a header ends, and that not an octet less will do. */
static void check_end(const char *bytes, size_t used)
{
    enum proxy_status status;
    struct proxy proxy;

    if (bytes[0] == '\r') {
        LAW(used >= HEAD && memcmp(bytes, signature, SIGNATURE) == 0);
        LAW(used == HEAD + ((size_t)(uint8_t)bytes[HEAD - 2] << 8 | (uint8_t)bytes[HEAD - 1]));
        LAW(used <= HEAD + PROXY_BLOCK_LIMIT);
    } else {
        LAW(used <= PROXY_LINE_LIMIT && memcmp(bytes, line_start, LINE_START) == 0);
        LAW((const char *)memmem(bytes, used, "\r\n", 2) + 2 == bytes + used);
    }
    LAW(feed(FUZZ_WHOLE, bytes, used - 1, &proxy, &status) == used - 1 && status == PROXY_PARTIAL);
}

/* The client by the place that haproxy's doc/proxy-protocol.txt, section 2.2, gives it. */
static void check_binary(const char *bytes, const struct proxy *proxy)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct address want;

    if (bytes[SIGNATURE + 1] == 0x11) {
        memcpy(&v4.sin_addr, bytes + HEAD, 4);
        memcpy(&v4.sin_port, bytes + HEAD + 8, 2);
        want = address_from((struct sockaddr *)&v4);
    } else {
        LAW(bytes[SIGNATURE + 1] == 0x21);
        memcpy(&v6.sin6_addr, bytes + HEAD, 16);
        memcpy(&v6.sin6_port, bytes + HEAD + 32, 2);
        want = address_from((struct sockaddr *)&v6);
    }
    LAW(bytes[SIGNATURE] == 0x21);
    LAW(same_address(&proxy->client, &want));
}

/* The same client said in a line. */
static void check_line(const struct address *client)
{
    char text[ADDRESS_TEXT_SIZE], line[PROXY_LINE_LIMIT + 1];
    bool ipv4 = address_is_ipv4(client);
    enum proxy_status status;
    struct proxy proxy;
    size_t length;

    address_text(client, text);
    length = (size_t)snprintf(line, sizeof line, "PROXY %s %s %s %u 25\r\n", ipv4 ? "TCP4" : "TCP6",
                              text, ipv4 ? "192.0.2.1" : "2001:db8::2", client->port);
    LAW(feed(FUZZ_WHOLE, line, length, &proxy, &status) == length && status == PROXY_DONE);
    LAW(!proxy.local && same_address(&proxy.client, client));
}

static void check_header(const char *bytes, size_t length)
{
    enum proxy_status status;
    struct proxy proxy;
    size_t used = feed(FUZZ_WHOLE, bytes, length, &proxy, &status);

    check_cuts(bytes, length, &proxy, status, used);
    LAW(status != PROXY_BAD || (proxy.reason != NULL && proxy.reason[0] != '\0'));
    if (status != PROXY_DONE)
        return;
    check_end(bytes, used);
    if (proxy.local)
        return;
    if (bytes[0] == '\r')
        check_binary(bytes, &proxy);
    check_line(&proxy.client);
}

/* Bit by bit. */
static bool lies_within(const struct network *network, const struct address *address)
{
    if (address_is_ipv4(&network->base) != address_is_ipv4(address))
        return false;
    for (unsigned bit = 0; bit < network->prefix; bit++)
        if (((network->base.bytes[bit / 8] ^ address->bytes[bit / 8]) >> (7 - bit % 8) & 1) != 0)
            return false;
    return true;
}

static void check_set(const struct network *parsed, char *const entries[], size_t count)
{
    struct networks networks;

    LAW(networks_build(&networks, entries, count));
    for (size_t i = 0; i < count; i++) {
        for (unsigned bit = 0; bit <= 128; bit++) {
            struct address address = parsed[i].base;
            bool want = false;
            if (bit < 128) /* one bit off, which is within the network or beside it */
                address.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            for (size_t k = 0; k < count; k++)
                want = want || lies_within(&parsed[k], &address);
            LAW(networks_contain(&networks, &address) == want);
        }
    }
    networks_free(&networks);
}

static void check_entry(const struct network *network)
{
    char text[ADDRESS_TEXT_SIZE], entry[ADDRESS_TEXT_SIZE + 8];
    bool ipv4 = address_is_ipv4(&network->base);
    struct network again;

    LAW(network->prefix <= 128 && network->base.port == 0);
    LAW(!ipv4 || network->prefix >= 96);
    LAW(lies_within(network, &network->base));
    address_text(&network->base, text);
    snprintf(entry, sizeof entry, "%s/%u", text, network->prefix - (ipv4 ? 96u : 0u));
    LAW(networks_parse_entry(entry, &again));
    LAW(same_address(&again.base, &network->base) && again.prefix == network->prefix);
}

static void check_networks(const char *bytes, size_t length)
{
    struct network parsed[NETWORKS_MAX];
    char *entries[NETWORKS_MAX];
    size_t count = 0;

    for (size_t at = 0; at < length && count < NETWORKS_MAX;) {
        const char *end = memchr(bytes + at, '\n', length - at);
        size_t size = end != NULL ? (size_t)(end - bytes) - at : length - at;
        char *entry = strndup(bytes + at, size < ENTRY_MAX ? size : ENTRY_MAX);

        LAW(entry != NULL);
        at += size + 1;
        if (networks_parse_entry(entry, &parsed[count])) {
            check_entry(&parsed[count]);
            entries[count++] = entry;
        } else {
            free(entry);
        }
    }
    check_set(parsed, entries, count);
    for (size_t i = 0; i < count; i++)
        free(entries[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;

    check_header(bytes, size);
    check_networks(bytes, size);
    return 0;
}
