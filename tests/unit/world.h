/* A session and the world around it, played: what it asks for is counted, what it says is kept. For
 * unit tests of the session and of its table. */
#ifndef TESTS_UNIT_WORLD_H
#define TESTS_UNIT_WORLD_H

#include "smtpd/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static struct {
    struct policy policy;
    struct rules rules;
    struct buffer out;
    struct session session;
    enum reply room; /* what room_check says */
    bool no_memory;  /* message_begin fails */
    size_t space;    /* what message_room says */
    struct buffer content;
    int begun, finished, aborted, replies, expected;
    int notes[NOTE_SECOND_HEADER + 1];
    enum reply last;
    char last_line[80];
} world;

static inline enum reply world_room_check_cb(struct session *session, uint64_t declared)
{
    (void)session;
    (void)declared;
    return world.room;
}

static inline bool world_message_begin_cb(struct session *session)
{
    world.begun++;
    buffer_clear(&world.content);
    strcpy(session->transaction->id, "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10");
    return !world.no_memory;
}

static inline bool world_tls_begin_cb(struct session *session)
{
    (void)session;
    return !world.no_memory;
}

static inline void world_content_expected_cb(struct session *session)
{
    (void)session;
    world.expected++;
}

static inline void world_noted_cb(struct session *session, enum session_note note,
                                  struct slice line)
{
    (void)session;
    (void)line;
    world.notes[note]++;
}

static inline size_t world_message_room_cb(const struct session *session)
{
    (void)session;
    return world.space;
}

static inline void world_message_append_cb(struct session *session, struct slice content)
{
    (void)session;
    assert_true(content.length <= world.space + 1);
    assert_true(buffer_append(&world.content, content.start, content.length));
}

static inline void world_message_finish_cb(struct session *session)
{
    (void)session;
    world.finished++;
}

static inline void world_message_abort_cb(struct session *session)
{
    (void)session;
    world.aborted++;
}

static inline void world_replied_cb(struct session *session, enum session_event event,
                                    enum reply reply, struct slice line)
{
    (void)session;
    (void)event;
    world.replies++;
    world.last = reply;
    snprintf(world.last_line, sizeof world.last_line, "%.*s", (int)line.length, line.start);
}

static const struct session_host world_host = {
    .room_check = world_room_check_cb,
    .tls_begin = world_tls_begin_cb,
    .content_expected = world_content_expected_cb,
    .message_begin = world_message_begin_cb,
    .message_room = world_message_room_cb,
    .message_append = world_message_append_cb,
    .message_finish = world_message_finish_cb,
    .message_abort = world_message_abort_cb,
    .replied = world_replied_cb,
    .noted = world_noted_cb,
};

/* Setup for cmocka: a new session with small limits, in a world where all goes well. */
static inline int world_setup(void **state)
{
    static char domain[] = "t.example";
    static char *const domains[] = {domain};

    (void)state;
    memset(&world, 0, sizeof world);
    assert_true(names_build(&world.policy.site.domains, domains, 1));
    world.policy.hostname = "mx.example";
    world.rules = (struct rules){
        .hostname = "mx.example",
        .policy = &world.policy,
        .max_size = 1000,
        .max_recipients = 3,
        .max_errors = 20,
        .max_messages = 100,
        .max_junk = 100,
        .tls = true,
    };
    world.space = SIZE_MAX - 1;
    buffer_init(&world.out, 1024 * 1024);
    buffer_init(&world.content, 1024 * 1024);
    session_init(&world.session, &world.rules, &world_host, &world.out);
    return 0;
}

static inline int world_teardown(void **state)
{
    (void)state;
    session_free(&world.session);
    policy_free(&world.policy);
    buffer_free(&world.out);
    buffer_free(&world.content);
    return 0;
}

/* Gives input, all of which the session must take. */
static inline void world_input(const char *text)
{
    assert_int_equal(session_input(&world.session, text, strlen(text)), strlen(text));
}

/* What was said since the last call; valid until more is said. */
static inline const char *world_output(void)
{
    buffer_append(&world.out, "", 1);
    world.out.length = 0;
    return world.out.data;
}

/* Gives input, and sees what the output begins with. */
static inline void says(const char *text, const char *want)
{
    world_input(text);
    const char *got = world_output();
    if (strncmp(got, want, strlen(want)) != 0)
        print_message("%sgot %swanted %s\n", text, got, want);
    assert_memory_equal(got, want, strlen(want));
}

/* Brings a new session into a state, by what leads there. */
static inline void world_go_to(enum session_state state)
{
    session_free(&world.session);
    session_init(&world.session, &world.rules, &world_host, &world.out);
    if (state == SESSION_NEW)
        return;
    session_event(&world.session, state == SESSION_REJECTED ? EVENT_EARLY_TALK : EVENT_CONNECT,
                  REPLY_UNSET);
    if (state == SESSION_HANDSHAKE)
        world_input("STARTTLS\r\n");
    if (state >= SESSION_READY && state <= SESSION_COMMIT)
        world_input("EHLO c.example\r\n");
    if (state >= SESSION_MAIL && state <= SESSION_COMMIT)
        world_input("MAIL FROM:<a@c.example>\r\n");
    if (state == SESSION_REFUSED)
        world_input("RCPT TO:<b@other.example>\r\n");
    if (state >= SESSION_RCPT && state <= SESSION_COMMIT)
        world_input("RCPT TO:<b@t.example>\r\n");
    if (state == SESSION_CHUNK || state == SESSION_CHUNKED)
        world_input(state == SESSION_CHUNK ? "BDAT 5\r\n" : "BDAT 5\r\nabcde");
    else if (state == SESSION_CHUNK_DRAIN)
        world_input("BDAT 1001\r\n");
    else if (state >= SESSION_CONTENT && state <= SESSION_COMMIT)
        world_input("DATA\r\n");
    if (state == SESSION_DRAIN)
        session_event(&world.session, EVENT_CONTENT_FAILED, REPLY_NO_SPACE);
    if (state == SESSION_COMMIT)
        world_input("x\r\n.\r\n");
    if (state == SESSION_CLOSED)
        session_event(&world.session, EVENT_HANGUP, REPLY_UNSET);
    assert_int_equal(world.session.state, state);
    world_output();
    world.last = REPLY_UNSET;
    world.aborted = world.begun = world.finished = 0;
}

#endif
