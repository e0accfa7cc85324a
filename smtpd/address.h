/* The network address of a client: as text for logs, envelope and trace field, and as the key under
 * which its connections are counted. Pure. */
#ifndef SMTPD_ADDRESS_H
#define SMTPD_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    ADDRESS_TEXT_SIZE = 46,   /* the longest IPv6 address and its NUL */
    ADDRESS_LITERAL_SIZE = 54 /* `[IPv6:` and `]` around it */
};

/* IPv4 is kept as IPv4-mapped IPv6, so a client that comes through a dual-stack socket is the same
 * as one that does not; a zone id is dropped. */
struct address {
    uint8_t bytes[16];
    uint16_t port;
};

/* All zero for a family that is neither. */
struct address address_from(const struct sockaddr *sockaddr);

bool address_is_ipv4(const struct address *address);

/* `192.0.2.1`, `2001:db8::1`. */
void address_text(const struct address *address, char text[static ADDRESS_TEXT_SIZE]);

/* `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321, section 4.1.3). */
void address_literal(const struct address *address, char literal[static ADDRESS_LITERAL_SIZE]);

/* What counts as one client: an IPv4 address, or an IPv6 /64, which is what one customer gets. The
 * port is 0. */
struct address address_client(const struct address *address);

#endif
