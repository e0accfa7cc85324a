/* An owner of a channel, for its unit tests: it notes what it is told, leaves where it is asked to, and
 * sees that nothing follows and nothing is left over. */
#ifndef TESTS_UNIT_CHANNEL_CLIENT_H
#define TESTS_UNIT_CHANNEL_CLIENT_H

#include "tests/unit/smtp_peer.h"

#include "relay/channel.h"
#include "relay/opening.h"

#include <dirent.h>
#include <signal.h>
#include <uv.h>

enum { CLIENT_RECEIVED_MAX = 16 * 1024 * 1024, CLIENT_PATIENCE = 60 * 1000 };

struct client {
    uv_loop_t *loop;
    struct channel *channel; /* NULL: closed */
    struct channel_options options;
    struct channel_callbacks callbacks;
    void *data; /* of a test */

    /* Where it leaves by itself. Always where the channel is lost. */
    bool leaves_opened, leaves_drained;
    size_t leaves_received; /* once so many bytes have come; 0: not for that */
    const char *greets;     /* written when it is opened */

    unsigned opened, drained, lost;
    struct extensions extensions;
    struct buffer received;
    enum trouble trouble;
    char words[2048];
};

static inline void client_leave(struct client *client)
{
    struct channel *channel = client->channel;

    assert_non_null(channel);
    client->channel = NULL;
    channel_close(channel);
}

static inline void client_opened_cb(void *owner, const struct extensions *extensions)
{
    struct client *client = owner;

    assert_non_null(client->channel);
    assert_int_equal(client->opened++, 0);
    client->extensions = *extensions;
    if (client->greets != NULL)
        channel_write(client->channel, client->greets, strlen(client->greets));
    if (client->leaves_opened)
        client_leave(client);
}

static inline void client_received_cb(void *owner, const char *bytes, size_t length)
{
    struct client *client = owner;

    assert_non_null(client->channel);
    assert_int_equal(client->opened, 1);
    assert_true(length > 0);
    assert_true(buffer_append(&client->received, bytes, length));
    if (client->leaves_received > 0 && client->received.length >= client->leaves_received)
        client_leave(client);
}

static inline void client_drained_cb(void *owner)
{
    struct client *client = owner;

    assert_non_null(client->channel);
    client->drained++;
    if (client->leaves_drained)
        client_leave(client);
}

static inline void client_lost_cb(void *owner, enum trouble trouble, const char *words)
{
    struct client *client = owner;

    assert_non_null(client->channel);
    assert_int_equal(client->lost++, 0);
    client->trouble = trouble;
    assert_true(strlen(words) > 0 && strlen(words) < OPENING_WORDS_SIZE);
    strcpy(client->words, words);
    client_leave(client);
}

/* A client of a peer that is started, with STARTTLS and without a user. */
static inline void client_init(struct client *client, uv_loop_t *loop, const struct peer *peer,
                               const struct peer_files *files)
{
    *client = (struct client){
        .loop = loop,
        .options = {.host = "127.0.0.1",
                    .port = peer->port,
                    .tls = CHANNEL_STARTTLS,
                    .ca = files->ca,
                    .hostname = "client.example",
                    .connect_seconds = CLIENT_PATIENCE / 1000},
        .callbacks = {client_opened_cb, client_received_cb, client_drained_cb, client_lost_cb}};
    buffer_init(&client->received, CLIENT_RECEIVED_MAX);
}

static inline void client_open(struct client *client)
{
    client->channel = channel_open(client->loop, &client->options, &client->callbacks, client);
    assert_non_null(client->channel);
    assert_int_equal(client->opened + client->lost, 0);
}

static inline void client_free(struct client *client)
{
    assert_null(client->channel);
    buffer_free(&client->received);
}

static inline void client_impatient_cb(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing happens any more");
}

/* Until everything is closed. */
static inline void client_run(uv_loop_t *loop)
{
    uv_timer_t patience;

    uv_timer_init(loop, &patience);
    uv_update_time(loop);
    uv_timer_start(&patience, client_impatient_cb, 2 * CLIENT_PATIENCE, 0);
    uv_unref((uv_handle_t *)&patience);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&patience, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
}

/* One connection, from its beginning to its end. `options` of the client may be changed before. */
static inline void client_meet(struct client *client)
{
    client_open(client);
    client_run(client->loop);
    assert_null(client->channel);
    assert_int_equal(client->opened + client->lost > 0, 1);
}

static inline unsigned client_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static struct peer_files files;
static uv_loop_t loop;
static unsigned descriptors;

/* For cmocka: of all tests of a program, and of each. */
static inline int start_all(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as program_main has it */
    assert_int_equal(channel_global_start(), 0);
    peer_files_make(&files);
    return 0;
}

static inline int stop_all(void **state)
{
    (void)state;
    channel_global_stop();
    return peer_files_remove(&files);
}

static inline int start_one(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    descriptors = client_descriptors();
    return 0;
}

static inline int stop_one(void **state)
{
    (void)state;
    /* A thread that looks a name up outlives the channel that wanted it. */
    for (int tries = 0; client_descriptors() != descriptors && tries < 1000; tries++)
        usleep(10 * 1000);
    assert_int_equal(client_descriptors(), descriptors);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

/* The beginnings of scripts. */
#define GREET "S 220 mx.example ESMTP", "H EHLO client.example"
#define UPGRADE                                                                                    \
    GREET, "S 250-mx.example", "S 250-SIZE 1", "S 250-PIPELINING", "S 250 STARTTLS", "H STARTTLS", \
        "S 220 go"
#define START        UPGRADE, "T", "H EHLO client.example"

#define OPENED       START, "S 250 mx.example"
#define OPENED_CLEAR GREET, "S 250 mx.example"

/* Credentials, and as RFC 4616 has them. */
#define PASSWORD   "open sesame"
#define PLAIN_SAID "AHVzZXIAb3BlbiBzZXNhbWU="
#define PLAIN      "H " PLAIN_SAID

static inline void write_file(const char *name, const char *text, char path[static 100])
{
    FILE *file;

    snprintf(path, 100, "%s/%s", files.directory, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#endif
