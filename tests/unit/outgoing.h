/* A spool for unit tests of relay, and messages in its queue. */
#ifndef TESTS_UNIT_OUTGOING_H
#define TESTS_UNIT_OUTGOING_H

#include "scratch.h"

#include "queue/envelope.h"

#include <sys/stat.h>
#include <time.h>

/* A message to put down, and what it is where a test does not say. */
struct outgoing {
    const char *from;
    const char *const *recipients;
    size_t count;
    int64_t received;
    const char *bytes;
    size_t length;
};

static const char *const outgoing_recipients[] = {"bob@there.example", "carol@there.example",
                                                  "dave@there.example", "erin@there.example"};

static const char outgoing_message[] = "Received: from here\r\n"
                                       "Subject: hello\r\n"
                                       "From: alice@here.example\r\n"
                                       "\r\n"
                                       "Good morning.\r\n";

static inline struct outgoing outgoing_to(size_t count)
{
    return (struct outgoing){
        .from = "alice@here.example",
        .recipients = outgoing_recipients,
        .count = count,
        .received = INT64_C(1795288091123456),
        .bytes = outgoing_message,
        .length = sizeof outgoing_message - 1,
    };
}

static inline int outgoing_setup(void **state)
{
    struct scratch *scratch;

    scratch_setup(state);
    scratch = *state;
    scratch->queue = QUEUE_RELAY;
    return 0;
}

/* Writes the file ID of a directory as smtpd or relay would. */
static inline void outgoing_write(const struct scratch *scratch, enum queue_directory directory,
                                  const char *id, const struct outgoing *outgoing)
{
    const struct envelope envelope = {
        .id = id,
        .received = outgoing->received,
        .client_address = "192.0.2.1",
        .client_port = 43210,
        .helo = "program.here.example",
        .protocol = "ESMTP",
        .from = outgoing->from,
        .recipients = (const char **)outgoing->recipients,
        .recipients_count = outgoing->count,
        .size = outgoing->length,
    };
    struct buffer file;

    buffer_init(&file, ENVELOPE_MAX + outgoing->length);
    assert_true(envelope_encode(&envelope, &file));
    assert_true(buffer_append(&file, outgoing->bytes, outgoing->length));
    scratch_write(scratch, directory, id, file.data, file.length);
    buffer_free(&file);
}

/* The same with an id that is made for it. */
static inline void outgoing_put(const struct scratch *scratch, enum queue_directory directory,
                                char id[static ID_SIZE], const struct outgoing *outgoing)
{
    id_make(id, outgoing->received);
    outgoing_write(scratch, directory, id, outgoing);
}

/* Sets a file's mtime, in seconds from now. */
static inline void outgoing_touch(const struct scratch *scratch, enum queue_directory directory,
                                  const char *name, long from_now)
{
    struct timespec times[2];

    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec += from_now;
    times[0] = times[1];
    assert_int_equal(utimensat(scratch_directory(scratch, directory), name, times, 0), 0);
}

#endif
