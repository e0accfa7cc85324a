/* Messages for unit tests of the spool: an envelope with a fresh id, and a file written by it. */
#ifndef TESTS_UNIT_MESSAGE_H
#define TESTS_UNIT_MESSAGE_H

#include "scratch.h"

#include "queue/commit.h"
#include "queue/writer.h"

static const char *message_recipients[] = {"bob@mayfly.example"};

static inline struct envelope message_envelope(char id[static ID_SIZE])
{
    int64_t received = INT64_C(1795288091123456);
    id_make(id, received);
    return (struct envelope){
        .id = id,
        .received = received,
        .client_address = "192.0.2.1",
        .client_port = 43210,
        .helo = "mail.example.org",
        .protocol = "ESMTP",
        .from = "alice@example.org",
        .recipients = message_recipients,
        .recipients_count = 1,
    };
}

/* Puts a whole message into new/. */
static inline void message_put(const struct scratch *scratch, char id[static ID_SIZE],
                               const void *bytes, size_t length)
{
    struct envelope envelope = message_envelope(id);
    struct writer writer, *writers[] = {&writer};
    struct commit commit;
    assert_int_equal(commit_open(&commit, &scratch->spool), 0);
    assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope), 0);
    assert_int_equal(writer_finish(&writer, bytes, length), 0);
    commit_run(&commit, writers, 1);
    assert_int_equal(writer.error, 0);
    commit_close(&commit);
}

#endif
