/* Sets of networks: see the header.
 *
 * Two networks are either apart or one lies within the other. With those that lie within another
 * left out, the only network that can contain an address is the last that does not begin behind it.
 */
#include "smtpd/networks.h"

#include "common/ascii.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS_BITS = 128, IPV4_BITS = 32, MAPPED_BITS = ADDRESS_BITS - IPV4_BITS };

/* The decimal number behind the slash, of at most three digits and without a zero before it. */
static bool parse_prefix(const char *text, unsigned *prefix)
{
    *prefix = 0;
    if (text[0] == '0' && text[1] != '\0')
        return false;
    for (size_t i = 0; i == 0 || text[i] != '\0'; i++) {
        if (i == 3 || !ascii_is_digit(text[i]))
            return false;
        *prefix = *prefix * 10 + (unsigned)(text[i] - '0');
    }
    return true;
}

static bool parse_host(const char *host, struct address *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        *address = address_from((const struct sockaddr *)&v4);
    else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1)
        *address = address_from((const struct sockaddr *)&v6);
    else
        return false;
    return true;
}

/* The address with the bits behind the prefix, and the port, taken away. */
static struct address lowest_of(const struct address *address, unsigned prefix)
{
    struct address lowest = {0};
    size_t whole = prefix / 8;

    memcpy(lowest.bytes, address->bytes, whole);
    if (prefix % 8 != 0)
        lowest.bytes[whole] = address->bytes[whole] & (uint8_t)(0xff00u >> prefix % 8);
    return lowest;
}

static bool contains(const struct network *network, const struct address *address)
{
    struct address lowest = lowest_of(address, network->prefix);

    return memcmp(lowest.bytes, network->base.bytes, sizeof lowest.bytes) == 0;
}

bool networks_parse_entry(const char *text, struct network *network)
{
    const char *slash = strchr(text, '/');
    size_t length = slash == NULL ? strlen(text) : (size_t)(slash - text);
    unsigned prefix = ADDRESS_BITS;
    char host[ADDRESS_TEXT_SIZE];

    if (length >= sizeof host)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (!parse_host(host, &network->base))
        return false;
    if (slash != NULL) {
        if (!parse_prefix(slash + 1, &prefix))
            return false;
        if (strchr(host, ':') == NULL)
            prefix += MAPPED_BITS;
        if (prefix > ADDRESS_BITS)
            return false;
    }
    network->prefix = (uint8_t)prefix;
    return contains(network, &network->base);
}

/* By where they begin; the widest of those that begin together comes first. IPv4 comes before all of
 * IPv6, and not where it is mapped: no network of IPv6 stands before an IPv4 address, not even one
 * that has the mapped addresses in it. */
static int compare_cb(const void *a, const void *b)
{
    const struct network *left = a, *right = b;
    bool ipv4 = address_is_ipv4(&left->base);
    int order = memcmp(left->base.bytes, right->base.bytes, sizeof left->base.bytes);

    if (ipv4 != address_is_ipv4(&right->base))
        return ipv4 ? -1 : 1;
    return order != 0 ? order : left->prefix - right->prefix;
}

bool networks_build(struct networks *networks, char *const entries[], size_t count)
{
    *networks = (struct networks){0};
    if (count == 0)
        return true;
    networks->sorted = malloc(count * sizeof *networks->sorted);
    if (networks->sorted == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        bool parsed = networks_parse_entry(entries[i], &networks->sorted[i]);
        assert(parsed);
        (void)parsed;
    }
    qsort(networks->sorted, count, sizeof *networks->sorted, compare_cb);
    for (size_t i = 0; i < count; i++) {
        const struct network *network = &networks->sorted[i];
        if (networks->count == 0 ||
            !contains(&networks->sorted[networks->count - 1], &network->base))
            networks->sorted[networks->count++] = *network;
    }
    return true;
}

void networks_free(struct networks *networks)
{
    free(networks->sorted);
    *networks = (struct networks){0};
}

bool networks_contain(const struct networks *networks, const struct address *address)
{
    const struct network sought = {.base = *address, .prefix = ADDRESS_BITS};
    size_t low = 0, high = networks->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_cb(&networks->sorted[middle], &sought) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && contains(&networks->sorted[low - 1], address);
}
