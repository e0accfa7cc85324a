/* The parameters behind the path of MAIL and RCPT (RFC 5321, section 4.1.2, Mail-parameters):
 * SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), and AUTH=<> (RFC 4954, section 5), which
 * senders add without asking. Pure. */
#ifndef SMTPD_PARAMETER_H
#define SMTPD_PARAMETER_H

#include "common/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum parameter_status {
    PARAMETER_OK,
    PARAMETER_BAD,    /* not in the form of a parameter, a wrong value, or given twice: 501 */
    PARAMETER_UNKNOWN /* 555 */
};

struct parameters {
    uint64_t size; /* declared; 0 when not; UINT64_MAX for any number beyond */
    bool utf8;     /* SMTPUTF8 was given */
};

/* Reads all that follows the `>` of a reverse-path. `*parameters` is meaningful when OK. */
enum parameter_status parameter_parse_mail(struct slice text, struct parameters *parameters);

/* Reads all that follows the `>` of a forward-path: no parameter is known there. */
enum parameter_status parameter_parse_rcpt(struct slice text);

#endif
