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
    /* The last socket is closed: after listener_close, or in it. */
    void (*closed_cb)(void *owner);
    void *owner;

    bool paused; /* to be read: descriptors or memory ran out just now */
    bool closed; /* to be read: closed_cb was called, or is being called */

    struct listener_socket *sockets;
    uv_timer_t retry; /* runs while paused, or while sockets wait to be closed */
    uv_tcp_t first;   /* stream of the loop */
    bool deaf;        /* no socket is being watched */
    bool resumed;     /* listener_resume was called since the last retry */
    bool shared;      /* others listen on the same port (SMTPD_REUSEPORT) */
    bool closing;
    unsigned tries; /* to accept who waits before a socket is closed */
};

/* Opens every socket (smtpd/places.h) and listens. 0, or a sysexits code after saying why. */
int listener_start(struct listener *listener, uv_loop_t *loop, const struct config *config);

/* Something that held a descriptor has ended: accepts again. */
void listener_resume(struct listener *listener);

/* The stop has two steps; how they spare clients is told in listener.c.
 *
 * The first has new clients go elsewhere, as far as that is possible. Returns for how many
 * milliseconds more those who come here all the same are to be served before the second step. */
unsigned listener_withdraw(struct listener *listener);

/* The second accepts who still waits, then closes the sockets. `listener` must live until the loop
 * has ended. */
void listener_close(struct listener *listener);

#endif
