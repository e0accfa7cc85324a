/* The PROXY protocol: see the header. */
#include "smtpd/proxy.h"

#include "common/ascii.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const char line_start[] = "PROXY ";
static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

enum { LINE_START = sizeof line_start - 1, SIGNATURE = sizeof signature - 1 };

/* Version 2: where its head has what. */
enum { AT_COMMAND = SIGNATURE, AT_FAMILY, AT_LENGTH, HEAD = AT_LENGTH + 2 };

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };
enum { TCP_OVER_IPV4 = 0x11, TCP_OVER_IPV6 = 0x21, FAMILY_MAX = 3, TRANSPORT_MAX = 2 };
enum { ADDRESSES_IPV4 = 12, ADDRESSES_IPV6 = PROXY_ADDRESSES_MAX };
enum { TLV_HEAD = 3, TLV_CHECKSUM = 0x03, CHECKSUM_SIZE = 4 };

static enum proxy_status refuse(struct proxy *proxy, const char *reason)
{
    proxy->reason = reason;
    return PROXY_BAD;
}

/* `bytes` as they stand in a struct sockaddr, the port in the network's order. */
static struct address address_of(int family, const void *bytes, in_port_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};

    if (family == AF_INET) {
        memcpy(&v4.sin_addr, bytes, sizeof v4.sin_addr);
        return address_from((const struct sockaddr *)&v4);
    }
    memcpy(&v6.sin6_addr, bytes, sizeof v6.sin6_addr);
    return address_from((const struct sockaddr *)&v6);
}

static bool parse_port(const char *text, in_port_t *port)
{
    unsigned number = 0;

    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (!ascii_is_digit(*text))
            return false;
        number = number * 10 + (unsigned)(*text - '0');
        if (number > UINT16_MAX)
            return false;
    }
    *port = htons((uint16_t)number);
    return true;
}

/* The words behind `PROXY TCP4` or `PROXY TCP6`: two addresses, two ports. The last four octets of
 * an IPv6 address may be written as IPv4, which the protocol does not speak of: haproxy writes the
 * clients of a dual-stack socket so. inet_pton(3) takes no zone, and no zero before a number. */
static enum proxy_status parse_tcp(struct proxy *proxy, int family, char *text)
{
    struct in6_addr source, destination; /* room for either family */
    in_port_t source_port, destination_port;
    char *words[4];

    for (size_t i = 0; i < 4; i++)
        words[i] = strsep(&text, " ");
    if (words[3] == NULL || text != NULL)
        return refuse(proxy, "line");
    if (inet_pton(family, words[0], &source) != 1 || inet_pton(family, words[1], &destination) != 1)
        return refuse(proxy, "address");
    if (!parse_port(words[2], &source_port) || !parse_port(words[3], &destination_port))
        return refuse(proxy, "port");
    proxy->client = address_of(family, &source, source_port);
    return PROXY_DONE;
}

/* Version 1, a whole line. What stands behind UNKNOWN does not matter. */
static enum proxy_status parse_line(struct proxy *proxy)
{
    char *text = proxy->held + LINE_START;
    const char *protocol = strsep(&text, " ");

    proxy->local = strcmp(protocol, "UNKNOWN") == 0;
    if (proxy->local)
        return PROXY_DONE;
    if (text != NULL && strcmp(protocol, "TCP4") == 0)
        return parse_tcp(proxy, AF_INET, text);
    if (text != NULL && strcmp(protocol, "TCP6") == 0)
        return parse_tcp(proxy, AF_INET6, text);
    return refuse(proxy, "protocol");
}

static enum proxy_status take_line(struct proxy *proxy, char c)
{
    uint16_t at = proxy->octets++;
    bool carriage = at > 0 && proxy->held[at - 1] == '\r';

    if (at < LINE_START && c != line_start[at])
        return refuse(proxy, "missing");
    if (carriage && c == '\n') {
        proxy->held[at - 1] = '\0';
        return parse_line(proxy);
    }
    if (carriage || c == '\n' || c == '\0')
        return refuse(proxy, "line");
    if (at == PROXY_HELD - 1 && c != '\r')
        return refuse(proxy, "too_long");
    proxy->held[at] = c;
    return PROXY_PARTIAL;
}

/* CRC32c (RFC 9260, appendix A), an octet at a time: a header is short and comes once. */
static uint32_t checksum_add(uint32_t sum, uint8_t octet)
{
    sum ^= octet;
    for (int bit = 0; bit < 8; bit++)
        sum = sum >> 1 ^ (0x82f63b78u & -(sum & 1));
    return sum;
}

/* Families other than the two we know are taken for UNSPEC, as the protocol asks of a receiver that
 * does not speak them; those that it does not name are refused. */
static enum proxy_status take_family(struct proxy *proxy, uint8_t octet)
{
    if (proxy->local)
        return PROXY_PARTIAL;
    if (octet >> 4 > FAMILY_MAX || (octet & 0xf) > TRANSPORT_MAX)
        return refuse(proxy, "family");
    proxy->family = octet;
    if (octet == TCP_OVER_IPV4)
        proxy->addresses = ADDRESSES_IPV4;
    else if (octet == TCP_OVER_IPV6)
        proxy->addresses = ADDRESSES_IPV6;
    else
        proxy->local = true;
    return PROXY_PARTIAL;
}

static enum proxy_status take_head(struct proxy *proxy, uint16_t at, uint8_t octet)
{
    if (at < SIGNATURE)
        return octet == (uint8_t)signature[at] ? PROXY_PARTIAL : refuse(proxy, "missing");
    if (at == AT_COMMAND) {
        if (octet >> 4 != COMMAND_PROXY >> 4)
            return refuse(proxy, "version");
        proxy->local = octet == COMMAND_LOCAL;
        return octet == COMMAND_LOCAL || octet == COMMAND_PROXY ? PROXY_PARTIAL
                                                                : refuse(proxy, "command");
    }
    if (at == AT_FAMILY)
        return take_family(proxy, octet);
    proxy->length = (uint16_t)(proxy->length << 8 | octet);
    if (at == AT_LENGTH)
        return PROXY_PARTIAL;
    if (proxy->length > PROXY_BLOCK_LIMIT)
        return refuse(proxy, "too_long");
    return proxy->length < proxy->addresses ? refuse(proxy, "too_short") : PROXY_PARTIAL;
}

/* What stands behind the addresses: type, length in two octets, value. Only the checksum is of
 * interest. */
static enum proxy_status take_tlv(struct proxy *proxy, uint8_t octet)
{
    if (proxy->tlv_head == TLV_HEAD) {
        if (proxy->tlv_type == TLV_CHECKSUM)
            proxy->want = proxy->want << 8 | octet;
        if (--proxy->tlv_left == 0)
            proxy->tlv_head = 0;
        return PROXY_PARTIAL;
    }
    if (proxy->tlv_head++ == 0) {
        proxy->tlv_type = octet;
        return PROXY_PARTIAL;
    }
    proxy->tlv_left = (uint16_t)(proxy->tlv_left << 8 | octet);
    if (proxy->tlv_head < TLV_HEAD)
        return PROXY_PARTIAL;
    if (proxy->tlv_left > HEAD + proxy->length - proxy->octets)
        return refuse(proxy, "tlv");
    if (proxy->tlv_type == TLV_CHECKSUM) {
        if (proxy->tlv_left != CHECKSUM_SIZE || proxy->summed)
            return refuse(proxy, "checksum");
        proxy->summed = true;
    }
    if (proxy->tlv_left == 0)
        proxy->tlv_head = 0;
    return PROXY_PARTIAL;
}

/* Version 2, whole. */
static enum proxy_status finish(struct proxy *proxy)
{
    bool ipv4 = proxy->family == TCP_OVER_IPV4;
    in_port_t port;

    if (proxy->local)
        return PROXY_DONE;
    if (proxy->tlv_head != 0)
        return refuse(proxy, "tlv");
    if (proxy->summed && proxy->want != ~proxy->sum)
        return refuse(proxy, "checksum");
    memcpy(&port, proxy->held + (ipv4 ? 2 * 4 : 2 * 16), sizeof port);
    proxy->client = address_of(ipv4 ? AF_INET : AF_INET6, proxy->held, port);
    return PROXY_DONE;
}

/* Where the peer's own address is used, the block is skipped unread: nobody knows what addresses of
 * an unknown family look like, or where TLVs begin behind them, and there is nothing in it that a
 * checksum could protect. */
static enum proxy_status take_block(struct proxy *proxy, char c)
{
    uint16_t at = proxy->octets++;
    bool in_checksum = proxy->tlv_head == TLV_HEAD && proxy->tlv_type == TLV_CHECKSUM;
    enum proxy_status status = PROXY_PARTIAL;
    uint8_t octet = (uint8_t)c;

    /* Its own field counts as zero in a checksum. */
    proxy->sum = checksum_add(at == 0 ? UINT32_MAX : proxy->sum, in_checksum ? 0 : octet);
    if (at < HEAD)
        status = take_head(proxy, at, octet);
    else if (at < HEAD + proxy->addresses)
        proxy->held[at - HEAD] = c;
    else if (!proxy->local)
        status = take_tlv(proxy, octet);
    if (status == PROXY_PARTIAL && at + 1 >= HEAD && at + 1 == HEAD + proxy->length)
        return finish(proxy);
    return status;
}

size_t proxy_feed(struct proxy *proxy, const char *bytes, size_t length, enum proxy_status *status)
{
    size_t at = 0;

    *status = PROXY_PARTIAL;
    if (proxy->version == 0 && length > 0)
        proxy->version = bytes[0] == signature[0] ? 2 : 1;
    while (at < length && *status == PROXY_PARTIAL) {
        *status = (proxy->version == 2 ? take_block : take_line)(proxy, bytes[at]);
        at++;
    }
    return at;
}
