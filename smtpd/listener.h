/* The sockets that smtpd listens on: those of its settings, or those it is given (LISTEN_FDS), so
 * that a restart need not refuse anybody. Loop thread only. */
#ifndef SMTPD_LISTENER_H
#define SMTPD_LISTENER_H

#include "smtpd/config.h"

#include <stdbool.h>
#include <uv.h>

struct listener_socket;

struct listener {
    struct listener_socket *sockets;
    /* Somebody waits on a socket: true when he was accepted, false when there is no memory for
     * that, in which case he is turned away. */
    bool (*connect_cb)(void *owner, uv_stream_t *socket);
    void *owner;
};

/* Opens every socket and listens. 0, or a sysexits code after saying why. */
int listener_start(struct listener *listener, uv_loop_t *loop, const struct config *config);

/* Closes the sockets. `listener` must live until the loop has ended. */
void listener_stop(struct listener *listener);

#endif
