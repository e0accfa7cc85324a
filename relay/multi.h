/* libcurl's multi interface on a libuv loop: libcurl says which descriptors and which timeout it
 * waits for, the loop waits for them, and tells libcurl. Once libcurl has done what it was asked to
 * do, its owner may go on waiting for the connection's descriptor by itself.
 *
 * Loop thread only. */
#ifndef RELAY_MULTI_H
#define RELAY_MULTI_H

#include <curl/curl.h>
#include <stdbool.h>
#include <uv.h>

struct multi_watch;

struct multi_callbacks {
    /* libcurl has worked: there may be messages. */
    void (*worked_cb)(void *owner);
    /* The descriptor of multi_wait is ready; `events` 0: called for by multi_soon. */
    void (*ready_cb)(void *owner, int events);
    /* Every handle is closed: the owner may free the memory. */
    void (*closed_cb)(void *owner);
};

struct multi {
    CURLM *curl;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct multi_watch *watches; /* of libcurl, and `own` */
    struct multi_watch *own;
    unsigned handles; /* that are not closed */
    bool done;        /* libcurl is not to be told of anything any more */
    const struct multi_callbacks *callbacks;
    void *owner;
};

/* False, with nothing to close, when memory is out. */
bool multi_open(struct multi *multi, uv_loop_t *loop, const struct multi_callbacks *callbacks,
                void *owner);

/* From now on the owner waits by itself: for `events` (UV_READABLE, UV_WRITABLE) of a descriptor,
 * until it says otherwise. False when it cannot be watched. */
bool multi_wait(struct multi *multi, curl_socket_t descriptor, int events);

/* ready_cb on a later turn, whatever the descriptor. After multi_wait. */
void multi_soon(struct multi *multi);

/* Neither libcurl nor the owner hears anything any more. To be called before a descriptor of
 * multi_wait is closed. */
void multi_silence(struct multi *multi);

/* Closes the rest; the easy handles have been removed before. closed_cb follows on a later turn. */
void multi_close(struct multi *multi);

#endif
