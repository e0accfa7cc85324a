/* The bytes of a connection between its socket and its session, both ways: what is read and cannot
 * be used yet, and replies on their way out. Loop thread only. */
#ifndef SMTPD_TRANSPORT_H
#define SMTPD_TRANSPORT_H

#include "smtpd/output.h"

#include <stdbool.h>

struct connection;

/* Input that could not be used at once; a connection has it while that is so. */
struct transport_input;

/* Reads from the socket, or stops. */
void transport_read(struct connection *connection, bool on);

/* Gives the session the input that was kept. May close the connection. */
void transport_use_kept(struct connection *connection);

/* Sends the replies that the session has given, or keeps them while they are to be delayed. May
 * close the connection. */
void transport_flush(struct connection *connection);

/* For struct session_host: TLS is to begin behind the replies that were given. False when memory is
 * out. */
bool transport_begin_tls(struct connection *connection);

/* There is no TLS to be had with this client: the connection is closed. */
void transport_fail_tls(struct connection *connection, const char *reason);

/* Ends TLS, if it was there, so that the client knows that nothing was cut off. */
void transport_end_tls(struct connection *connection);

/* Says that nothing more will be sent, and forgets what was kept. */
void transport_shutdown(struct connection *connection);

/* All output is sent, or the connection is lost: for struct output. */
void transport_drained_cb(struct output *output, int status);

#endif
