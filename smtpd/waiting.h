/* What a connection waits for, and until when. A deadline that comes is an event for the session,
 * or the end of the connection where there is nobody left to say anything to. Loop thread only. */
#ifndef SMTPD_WAITING_H
#define SMTPD_WAITING_H

#include "smtpd/wheel.h"

#include <stdint.h>

struct connection;
struct server;

/* How long a client has to hang up. A socket that is closed with input unread resets the
 * connection, and the reset may overtake the last reply. */
enum { WAITING_FAREWELL_MS = 2000 };

/* How long a load balancer has to say whose connection it passes on: it knows that before it
 * connects. */
enum { WAITING_HEADER_MS = 10000 };

enum waiting {
    WAITING_NOTHING,  /* the disk: no deadline, for the client can do nothing about it */
    WAITING_HEADER,   /* of the PROXY protocol */
    WAITING_GREETING, /* SMTPD_PREGREET: the client is to be silent */
    WAITING_COMMAND,
    WAITING_CONTENT,
    WAITING_DELAY,   /* replies are held back */
    WAITING_WRITE,   /* the client is to take its replies */
    WAITING_FAREWELL /* the last reply is sent: the client is to hang up */
};

/* The connection waits for this from now on. When it did already, its deadline stays as it was, but
 * for a command that was answered. */
void waiting_set(struct connection *connection, enum waiting waiting);

/* The limits have tightened: a deadline that the new ones would not allow is moved to where they do.
 */
void waiting_tighten(struct connection *connection);

/* The deadline of a connection has come: to be given to wheel_turn. */
void waiting_due_cb(struct wheel_entry *entry);

#endif
