/* A set of networks in CIDR notation (RFC 4632, RFC 4291): which peers a setting speaks of. Built
 * whole from the entries of the setting, which may be a file of thousands, and then only looked
 * into. Pure.
 *
 * Addresses are as in smtpd/address.h: an IPv4-mapped IPv6 address is the IPv4 address, in an entry
 * and in a look-up. `::/0` is thus every IPv6 address and no IPv4 address. */
#ifndef SMTPD_NETWORKS_H
#define SMTPD_NETWORKS_H

#include "smtpd/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct network {
    struct address base; /* its lowest address; the port is 0 */
    uint8_t prefix;      /* bits of `base` that count: 96 more than written for IPv4 */
};

/* Sorted, and none within another. All zero is the empty set. */
struct networks {
    struct network *sorted;
    size_t count;
};

/* Reads `192.0.2.0/24`, `2001:db8::/32`, or an address, which is a network of one. False for
 * anything else, and for a bit set behind the prefix: `192.0.2.1/24` is either a typing error or
 * meant as one address, and to guess would be to trust 255 peers too many. */
bool networks_parse_entry(const char *text, struct network *network);

/* Fills `networks` from entries each of which can be parsed; false, with nothing to free, when
 * memory is out. */
bool networks_build(struct networks *networks, char *const entries[], size_t count);
void networks_free(struct networks *networks);

bool networks_contain(const struct networks *networks, const struct address *address);

#endif
