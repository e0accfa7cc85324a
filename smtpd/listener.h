/* Accepts connections on the sockets that smtpd listens on. Loop thread only.
 *
 * When descriptors or memory run out accepting pauses: who comes then waits in the kernel's queue,
 * and is neither closed without a word nor a reason to be called again and again. It goes on when a
 * connection ends, and is tried now and then. */
#ifndef SMTPD_LISTENER_H
#define SMTPD_LISTENER_H

#include "smtpd/config.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

struct listener_socket;

struct listener {
    /* Somebody was accepted. The callee owns the descriptor, which does not block, whatever it
     * returns: false when it had no memory to serve him, and accepting is to pause. */
    bool (*connect_cb)(void *owner, int descriptor, const struct sockaddr *peer);
    void *owner;

    bool paused; /* to be read: descriptors or memory ran out just now */

    struct listener_socket *sockets;
    uv_timer_t retry; /* runs while paused */
    bool deaf;        /* no socket is being watched */
    uv_tcp_t first;   /* stream of the loop */
};

/* Opens every socket (smtpd/places.h) and listens. 0, or a sysexits code after saying why. */
int listener_start(struct listener *listener, uv_loop_t *loop, const struct config *config);

/* Something that held a descriptor has ended: ends a pause. */
void listener_resume(struct listener *listener);

/* Closes the sockets. `listener` must live until the loop has ended. */
void listener_stop(struct listener *listener);

#endif
