/* The verbs of SMTP: what a command line asks for, before anything is said about whether it may.
 * Pure. */
#ifndef SMTPD_COMMAND_H
#define SMTPD_COMMAND_H

#include "common/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum command_verb {
    COMMAND_HELO,
    COMMAND_EHLO,
    COMMAND_MAIL,
    COMMAND_RCPT,
    COMMAND_DATA,
    COMMAND_BDAT,
    COMMAND_RSET,
    COMMAND_NOOP,
    COMMAND_HELP,
    COMMAND_VRFY,
    COMMAND_STARTTLS,
    COMMAND_QUIT,
    COMMAND_UNIMPLEMENTED, /* a verb of some RFC that this server has not got: 502 */
    COMMAND_FOREIGN,       /* another protocol (HTTP) is being spoken */
    COMMAND_UNKNOWN,       /* a word that is no verb */
    COMMAND_MALFORMED,     /* no word at all: empty, or octets that no verb can have */
    COMMAND_MISUSED        /* a verb with an argument it may not have, or without one it needs */
};

struct command {
    enum command_verb verb;
    struct slice argument; /* behind the first space, without white space at its ends */
};

/* Reads a line without its CRLF. Verbs are compared whole and without case. The argument points
 * into `line`. */
struct command command_parse(struct slice line);

/* Reads the argument of BDAT (RFC 3030, section 2): how many octets follow the line, and whether they
 * are the message's last. False when it is malformed, and then nobody knows where the next command
 * begins. */
bool command_parse_chunk(struct slice argument, uint64_t *size, bool *last);

/* True of a line that says BDAT, however wrongly: octets may follow that are no commands. */
bool command_names_chunk(struct slice line);

/* True of a line that begins a PROXY protocol header of version 1. */
bool command_is_proxy(struct slice line);

/* What of a refused line may stand in a log: passwords (AUTH) and message content (a client that
 * sends its message although DATA was refused) must not. HELO and EHLO whole, MAIL and RCPT whole
 * where they have the shape of the command, any other verb that we know without its argument, and
 * of all else nothing. Points into `line`. */
struct slice command_loggable(struct slice line);

#endif
