/* The header of the PROXY protocol, with which a load balancer says whose connection it passes on:
 * version 1, a line of text, and version 2, binary (haproxy's doc/proxy-protocol.txt, sections 2.1
 * and 2.2). Nothing is held of it but the addresses. Pure. */
#ifndef SMTPD_PROXY_H
#define SMTPD_PROXY_H

#include "smtpd/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROXY_LINE_LIMIT = 107,               /* of version 1, CRLF included */
    PROXY_BLOCK_LIMIT = 4096,             /* of version 2, behind its first 16 octets */
    PROXY_ADDRESSES_MAX = 36,             /* of version 2: two of IPv6 and two ports */
    PROXY_HELD = PROXY_LINE_LIMIT - 2 + 1 /* a line without its CRLF, with a NUL */
};

enum proxy_status {
    PROXY_PARTIAL, /* all input is used and the header has not ended */
    PROXY_DONE,
    PROXY_BAD /* this is no header: the connection is to be closed without a word */
};

/* All zero is a fresh start. Of use only while the header comes: nothing in it is to be freed. */
struct proxy {
    struct address client; /* when DONE, and not `local` */
    bool local;            /* when DONE: the peer speaks for itself, or cannot tell for whom */
    const char *reason;    /* when BAD: a word for the log, static; `missing`: no header at all */

    uint8_t version;            /* 0: not known yet; this and all below is for proxy.c alone */
    uint8_t family;             /* of version 2, and its transport */
    uint8_t addresses;          /* octets of addresses in version 2, behind which TLVs come */
    uint8_t tlv_type, tlv_head; /* of the present TLV; octets of its head that have come */
    bool summed;                /* a checksum has come */
    uint16_t octets;            /* of the header so far */
    uint16_t length;            /* of version 2's block */
    uint16_t tlv_left;          /* octets of the present TLV's value that are to come */
    uint32_t sum, want;         /* CRC32c of the header so far, and what it is to be */
    char held[PROXY_HELD];
};

/* Takes octets up to the end of the header, never one behind it; returns how many were used. Not to
 * be called again after DONE or BAD.
 *
 * `local` is what LOCAL and UNKNOWN ask for, and what is left of a connection that came over
 * something other than TCP (UNSPEC, UNIX, DGRAM). BAD is said at the first octet that tells. */
size_t proxy_feed(struct proxy *proxy, const char *bytes, size_t length, enum proxy_status *status);

#endif
