/* What a server offers in its reply to EHLO (RFC 5321, section 4.1.1.1). Pure. */
#ifndef RELAY_EXTENSIONS_H
#define RELAY_EXTENSIONS_H

#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extensions {
    bool pipelining;       /* RFC 2920 */
    bool eight_bit;        /* 8BITMIME, RFC 6152 */
    bool utf8;             /* SMTPUTF8, RFC 6531 */
    bool size;             /* SIZE, RFC 1870 */
    uint64_t size_max;     /* 0: not said */
    size_t recipients_max; /* LIMITS RCPTMAX, RFC 9422; 0: not said */
    size_t mails_max;      /* LIMITS MAILMAX; 0: not said */
};

/* Reads one line of the reply to EHLO behind the first, with or without its code and line end:
 * `250-SIZE 35882577`. What is not known is passed over; case does not matter. */
void extensions_read(struct extensions *extensions, struct slice line);

#endif
