/* A connection to the smarthost: see the header.
 *
 *     OPENING ──libcurl is done, and opening_verdict has nothing against it──▶ OPEN
 *        └──────────────────────────any trouble────────────────────────────────┴──▶ LOST
 *     any ──channel_close──▶ CLOSED
 *
 * libcurl is never entered from one of its own callbacks, and the owner is called from none of
 * them: so channel_close may take libcurl's handles down at once, wherever the owner calls it from.
 * That does not wait for anybody: libcurl sends no QUIT on a connection under CURLOPT_CONNECT_ONLY,
 * its sockets do not block, and with CURLOPT_QUICK_EXIT a thread that looks a name up is left to
 * itself. */
#include "relay/channel.h"

#include "common/buffer.h"
#include "common/log.h"
#include "relay/multi.h"
#include "relay/opening.h"
#include "relay/request.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    RECORD_SIZE = 16 * 1024, /* the most that one record of TLS holds */
    INPUT_SIZE = 16 * 1024,
    STALLS_MAX = 100,           /* see send_unless_stalled */
    TURN_STEPS = 8,             /* reads, or writes, of a turn of the loop */
    KEPT_MAX = 64 * 1024 * 1024 /* bytes that wait to be sent */
};

enum channel_state { CHANNEL_OPENING, CHANNEL_OPEN, CHANNEL_LOST, CHANNEL_CLOSED };

struct channel {
    enum channel_state state;
    const struct channel_options *options;
    const struct channel_callbacks *callbacks;
    void *owner;
    struct multi multi;
    uv_timer_t deadline; /* of opening */
    unsigned handles;
    CURL *easy;
    struct opening opening;
    curl_socket_t descriptor;
    int events;          /* that `descriptor` is watched for */
    CURLcode send_error; /* nothing can be sent any more, and perhaps something be read */
    bool owes_drained;
    unsigned stalls; /* how often it was writable, and yet no record was written, on end */

    /* What is being sent, and what waits behind it. OpenSSL insists on being given the same bytes
     * at the same place again. */
    char record[RECORD_SIZE];
    size_t record_start, record_end;
    struct buffer kept;
    size_t kept_start;

    char input[INPUT_SIZE];
    char error[CURL_ERROR_SIZE]; /* libcurl's words */
    /* A loss that is to be told on a later turn. */
    enum trouble trouble;
    char words[OPENING_WORDS_SIZE];
};

/* The process. */

int channel_global_start(void)
{
    /* libcurl would write the keys of every connection to the file that this names. */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is no second thread yet */
    unsetenv("SSLKEYLOGFILE");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        log_error("libcurl_failed");
        return EX_SOFTWARE;
    }
    return 0;
}

void channel_global_stop(void)
{
    curl_global_cleanup();
}

/* The end. */

static void release(struct channel *channel)
{
    multi_silence(&channel->multi);
    if (channel->easy == NULL)
        return;
    curl_multi_remove_handle(channel->multi.curl, channel->easy);
    curl_easy_cleanup(channel->easy);
    channel->easy = NULL;
    opening_free(&channel->opening);
    buffer_free(&channel->kept);
}

static void lose(struct channel *channel, enum trouble trouble, const char *words)
{
    if (channel->state >= CHANNEL_LOST)
        return;
    channel->state = CHANNEL_LOST;
    if (words != channel->words)
        snprintf(channel->words, sizeof channel->words, "%s", words);
    uv_timer_stop(&channel->deadline);
    release(channel);
    channel->callbacks->lost_cb(channel->owner, trouble, channel->words);
}

static void lose_connection(struct channel *channel, CURLcode code)
{
    const char *error = channel->error[0] != '\0' ? channel->error : curl_easy_strerror(code);

    opening_words(channel->words, error);
    lose(channel, TROUBLE_UNREACHABLE, channel->words);
}

static void handle_closed(struct channel *channel)
{
    if (--channel->handles == 0)
        free(channel);
}

static void multi_closed_cb(void *owner)
{
    handle_closed(owner);
}

static void deadline_closed_cb(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void channel_close(struct channel *channel)
{
    assert(channel->state != CHANNEL_CLOSED);
    channel->state = CHANNEL_CLOSED;
    release(channel);
    multi_close(&channel->multi);
    uv_close((uv_handle_t *)&channel->deadline, deadline_closed_cb);
}

/* Open: bytes go through. */

static bool watch(struct channel *channel, int events)
{
    if (channel->events == events)
        return true;
    channel->events = events;
    return multi_wait(&channel->multi, channel->descriptor, events);
}

static size_t unsent(const struct channel *channel)
{
    return channel->record_end - channel->record_start + channel->kept.length - channel->kept_start;
}

/* Nothing more can be sent. What the server has said before it left is read first. */
static void fail_sending(struct channel *channel, CURLcode code)
{
    channel->send_error = code;
    channel->record_start = channel->record_end = 0;
    channel->kept_start = 0;
    buffer_free(&channel->kept);
    multi_soon(&channel->multi);
}

/* Puts what it can of the bytes into the record, which is empty; returns how much. */
static size_t record_fill(struct channel *channel, const char *bytes, size_t length)
{
    size_t part = length < RECORD_SIZE ? length : RECORD_SIZE;

    memcpy(channel->record, bytes, part);
    channel->record_start = 0;
    channel->record_end = part;
    return part;
}

/* Sends of the record what the kernel takes: true when that was all. */
static bool record_send(struct channel *channel)
{
    while (channel->record_start < channel->record_end) {
        size_t count = 0;
        CURLcode code = curl_easy_send(channel->easy, channel->record + channel->record_start,
                                       channel->record_end - channel->record_start, &count);
        if (code != CURLE_OK && code != CURLE_AGAIN)
            fail_sending(channel, code);
        if (code != CURLE_OK)
            return false;
        channel->record_start += count;
    }
    return true;
}

/* A turn's work on what is kept. */
static void send_kept(struct channel *channel)
{
    struct buffer *kept = &channel->kept;

    for (int step = 0; step < TURN_STEPS && record_send(channel) && unsent(channel) > 0; step++)
        channel->kept_start += record_fill(channel, kept->data + channel->kept_start,
                                           kept->length - channel->kept_start);
    if (channel->kept_start == kept->length) {
        channel->kept_start = 0;
        buffer_clear(kept);
    }
}

/* Keeps bytes behind those that are kept; what was sent of these makes room once it is the half. */
static bool keep(struct channel *channel, const char *bytes, size_t length)
{
    struct buffer *kept = &channel->kept;

    if (channel->kept_start > kept->length / 2) {
        kept->length -= channel->kept_start;
        memmove(kept->data, kept->data + channel->kept_start, kept->length);
        channel->kept_start = 0;
    }
    return buffer_append(kept, bytes, length);
}

size_t channel_write(struct channel *channel, const char *bytes, size_t length)
{
    if (channel->state != CHANNEL_OPEN || channel->send_error != CURLE_OK)
        return 0;
    while (length > 0 && unsent(channel) == 0) {
        size_t part = record_fill(channel, bytes, length);
        bytes += part;
        length -= part;
        if (!record_send(channel))
            break;
    }
    if (channel->send_error == CURLE_OK && unsent(channel) + length > 0) {
        channel->owes_drained = true;
        if (!keep(channel, bytes, length) || !watch(channel, UV_READABLE | UV_WRITABLE))
            fail_sending(channel, CURLE_OUT_OF_MEMORY);
    }
    return unsent(channel);
}

/* Reads until there is nothing more, for what TLS has deciphered makes no descriptor readable; but
 * no more than a turn's share, and then goes on in the next. */
static void receive(struct channel *channel)
{
    for (int step = 0; step < TURN_STEPS; step++) {
        size_t count = 0;
        CURLcode code = curl_easy_recv(channel->easy, channel->input, INPUT_SIZE, &count);
        if (code == CURLE_AGAIN) {
            if (channel->send_error != CURLE_OK)
                lose_connection(channel, channel->send_error);
            return;
        }
        if (code != CURLE_OK) {
            lose_connection(channel, code);
            return;
        }
        if (count == 0) {
            lose(channel, TROUBLE_UNREACHABLE, "the server closed the connection");
            return;
        }
        channel->callbacks->received_cb(channel->owner, channel->input, count);
        if (channel->state != CHANNEL_OPEN)
            return;
    }
    multi_soon(&channel->multi);
}

/* A server of TLS 1.2 may ask for a new handshake at any time, and nothing is written until it has
 * had its say in that: the descriptor stays writable, and the loop would turn in vain as long as
 * the server likes. A record that the kernel takes piece by piece takes it in far fewer pieces. */
static void send_unless_stalled(struct channel *channel, int events)
{
    size_t before = unsent(channel);

    if (events & UV_WRITABLE)
        send_kept(channel);
    if ((events & UV_READABLE) || unsent(channel) < before)
        channel->stalls = 0;
    else if (events & UV_WRITABLE)
        channel->stalls++;
    if (unsent(channel) > 0 && channel->stalls < STALLS_MAX)
        watch(channel, UV_READABLE | UV_WRITABLE);
    else
        watch(channel, UV_READABLE);
}

static void ready_cb(void *owner, int events)
{
    struct channel *channel = owner;

    if (channel->state != CHANNEL_OPEN)
        return;
    if (channel->send_error == CURLE_OK)
        send_unless_stalled(channel, events);
    if (channel->owes_drained && channel->send_error == CURLE_OK && unsent(channel) == 0) {
        channel->owes_drained = false;
        channel->callbacks->drained_cb(channel->owner);
    }
    if (channel->state == CHANNEL_OPEN && events != UV_WRITABLE)
        receive(channel);
}

/* Opening. */

static void opened(struct channel *channel)
{
    struct extensions extensions = channel->opening.extensions;

    uv_timer_stop(&channel->deadline);
    opening_free(&channel->opening);
    channel->error[0] = '\0';
    request_done(channel->easy);
    if (curl_easy_getinfo(channel->easy, CURLINFO_ACTIVESOCKET, &channel->descriptor) != CURLE_OK ||
        channel->descriptor == CURL_SOCKET_BAD || !watch(channel, UV_READABLE)) {
        lose(channel, TROUBLE_UNREACHABLE, "the connection cannot be watched");
        return;
    }
    channel->state = CHANNEL_OPEN;
    multi_soon(&channel->multi); /* TLS may have deciphered more than libcurl has read */
    channel->callbacks->opened_cb(channel->owner, &extensions);
}

static void worked_cb(void *owner)
{
    struct channel *channel = owner;
    int left;
    CURLMsg *message = curl_multi_info_read(channel->multi.curl, &left);
    enum trouble trouble;

    if (message == NULL)
        return;
    trouble =
        opening_verdict(&channel->opening, message->data.result, channel->error, channel->words);
    if (trouble != TROUBLE_NONE)
        lose(channel, trouble, channel->words);
    else
        opened(channel);
}

/* Nobody has answered in time; or it was all over before it began. */
static void deadline_cb(uv_timer_t *timer)
{
    struct channel *channel = timer->data;
    curl_off_t connected = 0;

    if (channel->trouble != TROUBLE_NONE) {
        lose(channel, channel->trouble, channel->words);
        return;
    }
    curl_easy_getinfo(channel->easy, CURLINFO_CONNECT_TIME_T, &connected);
    snprintf(channel->words, sizeof channel->words,
             "no connection, with TLS and AUTH, in %ld seconds: waited for %s",
             channel->options->connect_seconds,
             connected > 0 ? opening_awaits(&channel->opening) : "an answer to any address");
    lose(channel, TROUBLE_UNREACHABLE, channel->words);
}

/* Sets libcurl to work. What is wrong already is in `words`. */
static enum trouble begin(struct channel *channel)
{
    enum trouble trouble = request_prepare(channel->easy, channel->options, &channel->opening,
                                           channel->error, channel->words);

    if (trouble == TROUBLE_NONE &&
        curl_multi_add_handle(channel->multi.curl, channel->easy) != CURLM_OK) {
        snprintf(channel->words, sizeof channel->words, "libcurl does not begin");
        trouble = TROUBLE_UNREACHABLE;
    }
    return trouble;
}

struct channel *channel_open(uv_loop_t *loop, const struct channel_options *options,
                             const struct channel_callbacks *callbacks, void *owner)
{
    static const struct multi_callbacks multi_callbacks = {worked_cb, ready_cb, multi_closed_cb};
    struct channel *channel = calloc(1, sizeof *channel);
    bool tls = options->tls != CHANNEL_NO_TLS;

    if (channel == NULL)
        return NULL;
    channel->easy = curl_easy_init();
    if (channel->easy == NULL || !multi_open(&channel->multi, loop, &multi_callbacks, channel)) {
        curl_easy_cleanup(channel->easy);
        free(channel);
        return NULL;
    }
    channel->options = options;
    channel->callbacks = callbacks;
    channel->owner = owner;
    channel->handles = 2;
    uv_timer_init(loop, &channel->deadline);
    channel->deadline.data = channel;
    buffer_init(&channel->kept, KEPT_MAX);
    opening_init(&channel->opening, tls, tls && options->user != NULL);
    channel->trouble = begin(channel);
    uv_timer_start(
        &channel->deadline, deadline_cb,
        channel->trouble == TROUBLE_NONE ? (uint64_t)options->connect_seconds * UINT64_C(1000) : 0,
        0);
    return channel;
}
