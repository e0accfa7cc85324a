/* Where smtpd listens: the sockets that its settings name, or those it is given, so that a restart
 * need not refuse anybody. Called once, before the loop runs. */
#ifndef SMTPD_PLACES_H
#define SMTPD_PLACES_H

#include "smtpd/config.h"

#include <stdbool.h>

/* Connections that may wait on a socket to be accepted; the kernel lowers it to net.core.somaxconn.
 */
enum { PLACES_BACKLOG = 4096 };

/* Listens on the sockets that are inherited: LISTEN_FDS from descriptor 3 on (sd_listen_fds(3)), or
 * else descriptor 0 if it listens. Where there are none, opens those of SMTPD_LISTEN or PORT.
 *
 * Each is handed to `opened_cb`, which owns it from then on, and returns 0 or an errno.
 * `inherited`: others may hold it too, and accept from it when we no longer do. 0, or a sysexits
 * code after saying why; what was opened until then stays open. Blocks while names are looked up.
 */
int places_open(const struct config *config,
                int (*opened_cb)(void *owner, int descriptor, bool inherited), void *owner);

#endif
