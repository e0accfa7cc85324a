/* libcurl on a libuv loop: see the header. */
#include "relay/multi.h"

#include <stdlib.h>

/* A uv_poll_t is tied to one descriptor. libcurl looks names up, tries several addresses at a time
 * and closes descriptors as it likes; each has a handle with a life of its own, which closes in its
 * own time while the next descriptor of the same number is watched by another. */
struct multi_watch {
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t descriptor;
    struct multi_watch *next;
};

static void handle_closed(struct multi *multi)
{
    if (--multi->handles == 0)
        multi->callbacks->closed_cb(multi->owner);
}

static void watch_closed_cb(uv_handle_t *handle)
{
    struct multi_watch *watch = handle->data;
    struct multi *multi = watch->multi;

    free(watch);
    handle_closed(multi);
}

/* Takes the descriptor out of the loop before it returns, so that libcurl may close it. */
static void watch_drop(struct multi_watch *watch)
{
    struct multi_watch **place = &watch->multi->watches;

    while (*place != watch)
        place = &(*place)->next;
    *place = watch->next;
    if (watch->multi->own == watch)
        watch->multi->own = NULL;
    uv_close((uv_handle_t *)&watch->poll, watch_closed_cb);
}

static struct multi_watch *watch_make(struct multi *multi, curl_socket_t descriptor)
{
    struct multi_watch *watch = calloc(1, sizeof *watch);

    if (watch == NULL)
        return NULL;
    if (uv_poll_init(multi->loop, &watch->poll, descriptor) != 0) {
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->multi = multi;
    watch->descriptor = descriptor;
    watch->next = multi->watches;
    multi->watches = watch;
    multi->handles++;
    return watch;
}

/* What libcurl waits for. */

static void tell(struct multi *multi, curl_socket_t descriptor, int what)
{
    int running;

    curl_multi_socket_action(multi->curl, descriptor, what, &running);
    multi->callbacks->worked_cb(multi->owner);
}

static void watch_cb(uv_poll_t *poll, int status, int events)
{
    struct multi_watch *watch = poll->data;
    int what = status < 0 ? CURL_CSELECT_ERR : 0;

    if (events & UV_READABLE)
        what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        what |= CURL_CSELECT_OUT;
    tell(watch->multi, watch->descriptor, what);
}

static int socket_cb(CURL *easy, curl_socket_t descriptor, int what, void *data, void *known)
{
    struct multi *multi = data;
    struct multi_watch *watch = known;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL)
            watch_drop(watch);
        return 0;
    }
    if (multi->done)
        return 0;
    if (watch == NULL) {
        watch = watch_make(multi, descriptor);
        if (watch == NULL)
            return -1;
        curl_multi_assign(multi->curl, descriptor, watch);
    }
    if (what & CURL_POLL_IN)
        events |= UV_READABLE;
    if (what & CURL_POLL_OUT)
        events |= UV_WRITABLE;
    return uv_poll_start(&watch->poll, events, watch_cb) == 0 ? 0 : -1;
}

static void timer_cb(uv_timer_t *timer)
{
    struct multi *multi = timer->data;

    if (multi->done)
        multi->callbacks->ready_cb(multi->owner, 0);
    else
        tell(multi, CURL_SOCKET_TIMEOUT, 0);
}

/* On a later turn. 0 milliseconds would not do: libuv before 1.45 runs a timer that is started anew
 * by its own callback again in the same turn, and nothing else gets its share. */
static void timer_start(struct multi *multi, long milliseconds)
{
    uv_timer_start(&multi->timer, timer_cb, milliseconds > 0 ? (uint64_t)milliseconds : 1, 0);
}

/* Called from within libcurl, which must not be entered again. */
static int timeout_cb(CURLM *curl, long milliseconds, void *data)
{
    struct multi *multi = data;

    (void)curl;
    if (multi->done)
        return 0;
    if (milliseconds < 0)
        uv_timer_stop(&multi->timer);
    else
        timer_start(multi, milliseconds);
    return 0;
}

/* The header's functions. */

bool multi_open(struct multi *multi, uv_loop_t *loop, const struct multi_callbacks *callbacks,
                void *owner)
{
    *multi = (struct multi){.curl = curl_multi_init(),
                            .loop = loop,
                            .handles = 1,
                            .callbacks = callbacks,
                            .owner = owner};
    if (multi->curl == NULL)
        return false;
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETFUNCTION, socket_cb);
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERFUNCTION, timeout_cb);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERDATA, multi);
    uv_timer_init(loop, &multi->timer);
    multi->timer.data = multi;
    return true;
}

static void own_cb(uv_poll_t *poll, int status, int events)
{
    struct multi *multi = ((struct multi_watch *)poll->data)->multi;

    /* What is wrong is found, with its words, by reading. */
    multi->callbacks->ready_cb(multi->owner, status < 0 ? UV_READABLE : events);
}

bool multi_wait(struct multi *multi, curl_socket_t descriptor, int events)
{
    if (!multi->done)
        multi_silence(multi);
    if (multi->own == NULL)
        multi->own = watch_make(multi, descriptor);
    return multi->own != NULL && uv_poll_start(&multi->own->poll, events, own_cb) == 0;
}

void multi_soon(struct multi *multi)
{
    timer_start(multi, 0);
}

void multi_silence(struct multi *multi)
{
    multi->done = true;
    uv_timer_stop(&multi->timer);
    while (multi->watches != NULL) {
        /* libcurl would hand a watch that is gone to socket_cb. */
        if (multi->watches != multi->own)
            curl_multi_assign(multi->curl, multi->watches->descriptor, NULL);
        watch_drop(multi->watches);
    }
}

static void timer_closed_cb(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void multi_close(struct multi *multi)
{
    multi_silence(multi);
    curl_multi_cleanup(multi->curl);
    multi->curl = NULL;
    uv_close((uv_handle_t *)&multi->timer, timer_closed_cb);
}
