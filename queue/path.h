/* Reverse-path and forward-path (RFC 5321, section 4.1.2; RFC 6531, section 3.3), and the domains
 * and address literals in them. Nothing is changed or copied: a path is where its parts lie in the
 * command line. Pure. */
#ifndef QUEUE_PATH_H
#define QUEUE_PATH_H

#include "common/slice.h"

#include <stdbool.h>

/* The local part may be longer than the 64 octets that RFC 5321, section 4.5.3.1.1, grants
 * everyone: addresses that carry a signature or another address are. The path may be as long as its
 * parts. */
enum { PATH_LOCAL_MAX = 256, PATH_DOMAIN_MAX = 255, PATH_LABEL_MAX = 63 };

struct path {
    struct slice mailbox; /* as given, without brackets and source route; empty for <> */
    struct slice local;   /* before the last `@`, quotes included; all of <Postmaster> */
    struct slice domain;  /* behind it; empty where there is none */
    bool non_ascii;       /* has UTF-8 in it, which needs SMTPUTF8 */
};

/* Reads the path at the start of `input`; `*rest` is what follows its `>`. False when it does not
 * fit the grammar. A reverse-path may be empty; a forward-path may be <Postmaster>. */
bool path_parse_reverse(struct slice input, struct path *path, struct slice *rest);
bool path_parse_forward(struct slice input, struct path *path, struct slice *rest);

/* True for a local part `postmaster` in any case. */
bool path_is_postmaster(const struct path *path);

/* Whether all of `text` is a domain: labels of letters, digits, hyphens, underscores and UTF-8; or
 * an address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]`. Underscores are in no grammar and in
 * many names. */
bool path_is_domain(struct slice text);
bool path_is_literal(struct slice text);

#endif
