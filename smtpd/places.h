/* Where smtpd listens: the sockets that its settings name, or those it is given (LISTEN_FDS), so
 * that a restart need not refuse anybody. Called once, before the loop runs. */
#ifndef SMTPD_PLACES_H
#define SMTPD_PLACES_H

#include "smtpd/config.h"

/* Opens every socket, listens, and hands each to `opened_cb`, which owns it from then on, and
 * returns 0 or an errno. The descriptors do not block. 0, or a sysexits code after saying why; what
 * was opened until then stays open. Blocks while names are looked up. */
int places_open(const struct config *config, int (*opened_cb)(void *owner, int descriptor),
                void *owner);

#endif
