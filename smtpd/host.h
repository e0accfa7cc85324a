/* What a session asks of the world (smtpd/session.h), as a connection can give it: room on the
 * disk, a message to put content into, a line in the log. Loop thread only. */
#ifndef SMTPD_HOST_H
#define SMTPD_HOST_H

#include "smtpd/session.h"

/* The session is that of a struct connection. */
extern const struct session_host host_of_connections;

#endif
