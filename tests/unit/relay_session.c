/* A connection over its life, above a channel that the test plays. */
#include "message.h"

#include "relay/session.h"

#include <uv.h>

/* The channel: what was written, and what the test lets come in. */
struct channel {
    const struct channel_callbacks *callbacks;
    void *owner;
    struct buffer written;
    size_t kept; /* answered to channel_write */
    bool closed;
};

static struct channel channel;

struct channel *channel_open(uv_loop_t *loop, const struct channel_options *options,
                             const struct channel_callbacks *callbacks, void *owner)
{
    (void)loop, (void)options;
    channel = (struct channel){.callbacks = callbacks, .owner = owner};
    buffer_init(&channel.written, 64 << 20);
    return &channel;
}

size_t channel_write(struct channel *written, const char *bytes, size_t length)
{
    assert_false(written->closed);
    assert_true(buffer_append(&written->written, bytes, length));
    return written->kept;
}

void channel_close(struct channel *closed)
{
    assert_false(closed->closed);
    closed->closed = true;
    buffer_free(&closed->written);
}

/* What the session said to its owner. */
static struct {
    unsigned idle, done, gone;
    struct mail *mail;
    enum trouble trouble, gone_trouble;
    char words[600], gone_words[600];
    enum session_retry retry;
} heard;

static void idle_cb(void *owner, struct session *session)
{
    (void)owner;
    assert_int_equal(session_state(session), SESSION_IDLE);
    heard.idle++;
}

static void done_cb(void *owner, struct session *session, struct mail *mail, enum trouble trouble,
                    const char *words, enum session_retry retry)
{
    (void)owner, (void)session;
    heard.done++;
    heard.mail = mail;
    heard.trouble = trouble;
    heard.retry = retry;
    snprintf(heard.words, sizeof heard.words, "%s", words);
}

static void gone_cb(void *owner, struct session *session, enum trouble trouble, const char *words)
{
    (void)owner, (void)session;
    heard.gone++;
    heard.gone_trouble = trouble;
    snprintf(heard.gone_words, sizeof heard.gone_words, "%s", words);
}

static const struct session_callbacks callbacks = {
    .idle_cb = idle_cb, .done_cb = done_cb, .gone_cb = gone_cb};

static struct session_options options;
static struct extensions extensions;
static uv_loop_t loop;

static struct session *open_session(void)
{
    memset(&heard, 0, sizeof heard);
    options = (struct session_options){.reply_ms = 60000, .idle_ms = 60000, .mails = 100};
    extensions = (struct extensions){.pipelining = true};
    assert_int_equal(uv_loop_init(&loop), 0);
    struct session *session = session_open(&loop, &options, &callbacks, NULL);
    assert_non_null(session);
    assert_int_equal(session_state(session), SESSION_OPENING);
    return session;
}

static struct session *opened_session(void)
{
    struct session *session = open_session();
    channel.callbacks->opened_cb(channel.owner, &extensions);
    assert_int_equal(heard.idle, 1);
    return session;
}

/* Ends what is left of it: every handle is closed. */
static void close_session(struct session *session)
{
    if (heard.gone == 0)
        session_abort(session);
    assert_true(channel.closed);
    assert_int_equal(heard.gone, 1);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void say(const char *bytes)
{
    channel.callbacks->received_cb(channel.owner, bytes, strlen(bytes));
}

static void expect_written(const char *want)
{
    assert_int_equal(channel.written.length, strlen(want));
    assert_memory_equal(channel.written.data, want, strlen(want));
    buffer_clear(&channel.written);
}

/* Mails. */

static struct mail *make_mail(struct scratch *scratch, size_t size)
{
    char id[ID_SIZE], *content = malloc(size + 1);
    struct envelope envelope = message_envelope(id);
    struct writer writer;
    struct mail *mail;
    assert_non_null(content);
    memset(content, 'x', size);
    for (size_t i = 60; i + 1 < size; i += 62)
        memcpy(content + i, "\r\n", 2);
    assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_RELAY, &envelope), 0);
    assert_int_equal(writer_finish(&writer, content, size), 0);
    const int *directories = scratch->spool.directories[QUEUE_RELAY];
    assert_int_equal(renameat(directories[QUEUE_TMP], id, directories[QUEUE_NEW], id), 0);
    close(writer.descriptor);
    free(content);
    assert_int_equal(mail_load(&mail, &scratch->spool, QUEUE_NEW, id), MAIL_LOADED);
    return mail;
}

#define COMMANDS  "MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@mayfly.example>\r\nDATA\r\n"
#define ACCEPTING "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n"

static void sends_one_mail_after_another(void **state)
{
    struct session *session = opened_session();
    for (int i = 0; i < 3; i++) {
        struct mail *mail = make_mail(*state, 5);
        session_send(session, mail);
        assert_int_equal(session_state(session), SESSION_SENDING);
        expect_written(COMMANDS);
        say(ACCEPTING);
        expect_written("xxxxx\r\n.\r\n");
        say("250 2.0.0 taken\r\n");
        assert_int_equal(heard.done, i + 1);
        assert_int_equal(heard.trouble, TROUBLE_NONE);
        assert_ptr_equal(heard.mail, mail);
        assert_int_equal(mail->recipients[0].outcome, OUTCOME_ACCEPTED);
        assert_int_equal(heard.idle, i + 2);
        mail_free(mail);
    }
    session_quit(session);
    assert_int_equal(session_state(session), SESSION_QUITTING);
    expect_written("QUIT\r\n");
    say("221 bye\r\n");
    assert_int_equal(heard.gone, 1);
    assert_int_equal(heard.gone_trouble, TROUBLE_NONE);
    close_session(session);
}

static void replies_may_come_in_any_pieces(void **state)
{
    struct session *session = opened_session();
    struct mail *mail = make_mail(*state, 5);
    static const char replies[] = ACCEPTING "250 2.0.0 taken\r\n";
    session_send(session, mail);
    for (const char *at = replies; *at != '\0'; at++)
        say((char[]){*at, '\0'});
    assert_int_equal(heard.done, 1);
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_ACCEPTED);
    mail_free(mail);
    close_session(session);
}

/* The content of a large mail goes out as fast as it is taken, in pieces, and comes out whole: again
 * for a mail that had been half sent over another connection. */
static void large_content_keeps_the_pace_of_the_server(void **state)
{
    enum { SIZE = 5 * MAIL_PIECE + 77 };
    struct mail *mail = make_mail(*state, SIZE);
    for (int round = 0; round < 2; round++) {
        struct session *session = opened_session();
        channel.kept = 0;
        session_send(session, mail);
        buffer_clear(&channel.written);
        channel.kept = 1;
        say(ACCEPTING);
        for (size_t seen = 0; round == 1 && channel.written.length == 0; seen++)
            uv_run(&loop, UV_RUN_ONCE); /* it is read again from its beginning */
        size_t first = channel.written.length;
        assert_true(first > 0 && first <= MAIL_PIECE + 3);
        for (int i = 0; i < 3; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(channel.written.length, first);
        for (int i = 0; i < 2; i++) {
            size_t before = channel.written.length;
            channel.callbacks->drained_cb(channel.owner);
            while (channel.written.length == before)
                uv_run(&loop, UV_RUN_ONCE);
        }
        if (round == 0) {
            channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "cut");
        } else {
            channel.kept = 0;
            channel.callbacks->drained_cb(channel.owner);
            while (memcmp(channel.written.data + channel.written.length - 5, "\r\n.\r\n", 5) != 0)
                uv_run(&loop, UV_RUN_ONCE);
            assert_int_equal(channel.written.length, SIZE + 5);
            say("250 taken\r\n");
        }
        while (heard.done == 0)
            uv_run(&loop, UV_RUN_ONCE);
        assert_int_equal(heard.trouble, round == 0 ? TROUBLE_UNREACHABLE : TROUBLE_NONE);
        assert_int_equal(mail->recipients[0].outcome, round == 0 ? OUTCOME_OPEN : OUTCOME_ACCEPTED);
        close_session(session);
    }
    mail_free(mail);
}

static void says_what_was_wrong(void **state)
{
    static const struct {
        const char *replies; /* NULL: the connection is lost */
        enum trouble want;
        const char *words;
    } rows[] = {
        {NULL, TROUBLE_UNREACHABLE, "cut"},
        {"421 4.3.2 going down\r\n", TROUBLE_THROTTLED, "421 4.3.2 going down"},
        {"250 ok\r\n421 4.7.0 too much\r\n", TROUBLE_THROTTLED, "421 4.7.0 too much"},
        {ACCEPTING "421 enough\r\n", TROUBLE_THROTTLED, "421 enough"},
        {"hello\r\n", TROUBLE_PROTOCOL, "the smarthost's reply is none"},
        {"250-a\r\n251 b\r\n", TROUBLE_PROTOCOL, "the smarthost's reply is none"},
        {"354 what\r\n", TROUBLE_PROTOCOL, "354 what"},
        {"503 5.5.1 nested MAIL\r\n", TROUBLE_PROTOCOL, "503 5.5.1 nested MAIL"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct session *session = opened_session();
        struct mail *mail = make_mail(*state, 5);
        session_send(session, mail);
        if (rows[i].replies != NULL)
            say(rows[i].replies);
        else
            channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "cut");
        assert_int_equal(heard.done, 1);
        assert_int_equal(heard.trouble, rows[i].want);
        assert_string_equal(heard.words, rows[i].words);
        assert_int_equal(heard.gone_trouble, TROUBLE_NONE);
        assert_int_equal(mail->recipients[0].outcome, OUTCOME_OPEN);
        assert_int_equal(heard.gone, 1);
        mail_free(mail);
        close_session(session);
    }
}

/* A server that wants to know us first has nothing against the message, nor against the connection. */
static void a_login_is_missing(void **state)
{
    struct session *session = opened_session();
    struct mail *mail = make_mail(*state, 5);
    session_send(session, mail);
    say("530 5.7.0 Authentication required\r\n503 5.5.1 MAIL first\r\n503 5.5.1 RCPT first\r\n");
    assert_int_equal(heard.done, 1);
    assert_int_equal(heard.trouble, TROUBLE_CREDENTIALS);
    assert_string_equal(heard.words, "530 5.7.0 Authentication required");
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_OPEN);
    mail_free(mail);
    close_session(session);
}

/* Many servers end a connection after so many messages; what they mean is not all of us. */
static void a_connection_may_be_worn_out(void **state)
{
    struct session *session = opened_session();
    struct mail *first = make_mail(*state, 5), *second = make_mail(*state, 5);
    session_send(session, first);
    say(ACCEPTING "250 taken\r\n");
    session_send(session, second);
    say("421 4.7.0 too many messages\r\n");
    assert_int_equal(heard.trouble, TROUBLE_NONE);
    assert_int_equal(heard.retry, SESSION_RETRY_NOW);
    assert_int_equal(second->recipients[0].outcome, OUTCOME_OPEN);
    mail_free(first);
    mail_free(second);
    close_session(session);
}

/* A refusal that comes before the content has all gone is one of the message. */
static void a_refusal_may_come_early(void **state)
{
    enum { SIZE = 3 * MAIL_PIECE };
    static const struct {
        const char *reply;
        enum outcome want;
        enum trouble trouble;
    } rows[] = {{"552 5.3.4 too big\r\n", OUTCOME_FAILED, TROUBLE_NONE},
                {"451 4.3.0 not now\r\n", OUTCOME_DEFERRED, TROUBLE_NONE},
                {"451 4.7.0 less\r\n", OUTCOME_OPEN, TROUBLE_THROTTLED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct session *session = opened_session();
        struct mail *mail = make_mail(*state, SIZE);
        session_send(session, mail);
        channel.kept = 1;
        say(ACCEPTING);
        say(rows[i].reply);
        while (heard.done == 0)
            uv_run(&loop, UV_RUN_ONCE);
        assert_int_equal(mail->recipients[0].outcome, rows[i].want);
        assert_int_equal(heard.trouble, rows[i].trouble);
        mail_free(mail);
        close_session(session);
    }
}

/* The server closed a connection that had been idle, as we began to use it: nobody is to blame. */
static void a_stale_connection_is_no_trouble(void **state)
{
    struct session *session = opened_session();
    struct mail *first = make_mail(*state, 5), *second = make_mail(*state, 5);
    session_send(session, first);
    say(ACCEPTING "250 taken\r\n");
    session_send(session, second);
    channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "reset");
    assert_int_equal(heard.done, 2);
    assert_int_equal(heard.retry, SESSION_RETRY_NOW);
    assert_int_equal(heard.trouble, TROUBLE_NONE);
    assert_int_equal(second->recipients[0].outcome, OUTCOME_OPEN);
    close_session(session);

    /* Once it has answered it may have the message. */
    session = opened_session();
    struct mail *third = make_mail(*state, 5);
    session_send(session, third);
    say(ACCEPTING "250 taken\r\n");
    session_send(session, second);
    say(ACCEPTING);
    channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "reset");
    assert_int_equal(heard.retry, SESSION_RETRY_SOON);
    assert_int_equal(heard.trouble, TROUBLE_NONE);
    assert_string_equal(heard.words, "reset");
    assert_int_equal(second->recipients[0].outcome, OUTCOME_OPEN);
    close_session(session);

    /* And one that has not served is trouble. */
    session = opened_session();
    session_send(session, second);
    say("250 ok\r\n");
    channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "reset");
    assert_int_equal(heard.retry, SESSION_RETRY_NONE);
    assert_int_equal(heard.trouble, TROUBLE_UNREACHABLE);
    close_session(session);
    mail_free(third);
    mail_free(first);
    mail_free(second);
}

/* A connection may end between two mails; one that ends as soon as it is open is trouble, or it would be
 * made again and again without a pause. */
static void ends_between_mails(void **state)
{
    enum { FRESH, SERVED, IDLE, KINDS };
    for (int kind = FRESH; kind < KINDS; kind++)
        for (int how = 0; how < 3; how++) {
            static const enum trouble want[] = {TROUBLE_UNREACHABLE, TROUBLE_THROTTLED,
                                                TROUBLE_PROTOCOL};
            struct session *session = opened_session();
            if (kind == SERVED) {
                struct mail *mail = make_mail(*state, 5);
                session_send(session, mail);
                say(ACCEPTING "250 taken\r\n");
                mail_free(mail);
            } else if (kind == IDLE) {
                uv_sleep(150);
                uv_update_time(&loop);
            }
            if (how == 0)
                channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "closed");
            else
                say(how == 1 ? "421 idle too long\r\n" : "250 what\r\n");
            assert_int_equal(heard.gone, 1);
            assert_int_equal(heard.gone_trouble, kind == FRESH ? want[how] : TROUBLE_NONE);
            close_session(session);
        }
}

static void could_not_be_opened(void **state)
{
    (void)state;
    struct session *session = open_session();
    channel.callbacks->lost_cb(channel.owner, TROUBLE_CREDENTIALS, "535 no");
    assert_int_equal(heard.gone_trouble, TROUBLE_CREDENTIALS);
    assert_string_equal(heard.gone_words, "535 no");
    assert_int_equal(heard.done, 0);
    close_session(session);

    session = open_session();
    session_quit(session);
    assert_int_equal(heard.gone, 1);
    assert_int_equal(heard.gone_trouble, TROUBLE_NONE);
    close_session(session);
}

static void takes_so_many_mails_and_no_more(void **state)
{
    static const struct {
        unsigned ours;
        size_t theirs;
        unsigned want;
    } rows[] = {{1, 0, 1}, {3, 0, 3}, {3, 2, 2}, {2, 9, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct session *session = open_session();
        unsigned sent = 0;
        options.mails = rows[i].ours;
        extensions.mails_max = rows[i].theirs;
        channel.callbacks->opened_cb(channel.owner, &extensions);
        while (session_state(session) == SESSION_IDLE) {
            struct mail *mail = make_mail(*state, 1);
            session_send(session, mail);
            say(ACCEPTING "250 taken\r\n");
            mail_free(mail);
            sent++;
        }
        assert_int_equal(sent, rows[i].want);
        assert_int_equal(session_state(session), SESSION_QUITTING);
        close_session(session);
    }
}

static void a_mail_in_hand_is_sent_before_quit(void **state)
{
    struct session *session = opened_session();
    struct mail *mail = make_mail(*state, 5);
    session_send(session, mail);
    session_quit(session);
    assert_int_equal(session_state(session), SESSION_SENDING);
    say(ACCEPTING "250 taken\r\n");
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_ACCEPTED);
    assert_int_equal(session_state(session), SESSION_QUITTING);
    mail_free(mail);
    close_session(session);
}

/* The clock: a reply that does not come, the reply to the end of data, which has longer, an idle
 * connection, and a QUIT that nobody answers. */
static void waits_for_nothing_for_ever(void **state)
{
    struct session *session = open_session();
    struct mail *mail = make_mail(*state, 5);
    options.reply_ms = 200;
    channel.callbacks->opened_cb(channel.owner, &extensions);
    session_send(session, mail);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(heard.trouble, TROUBLE_UNREACHABLE);
    assert_string_equal(heard.words, "the smarthost does not reply");
    close_session(session);

    session = open_session();
    options.reply_ms = 200;
    channel.callbacks->opened_cb(channel.owner, &extensions);
    session_send(session, mail);
    say(ACCEPTING);
    uint64_t began = uv_hrtime();
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(uv_hrtime() - began >= UINT64_C(390) * 1000000);
    assert_int_equal(heard.trouble, TROUBLE_UNREACHABLE);
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_OPEN);
    close_session(session);
    mail_free(mail);

    session = open_session();
    options.idle_ms = 100;
    channel.callbacks->opened_cb(channel.owner, &extensions);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(heard.gone, 1);
    assert_int_equal(heard.gone_trouble, TROUBLE_NONE);
    close_session(session);
}

static void a_transaction_that_was_left_open_is_reset(void **state)
{
    struct session *session = opened_session();
    struct mail *mail = make_mail(*state, 5);
    session_send(session, mail);
    buffer_clear(&channel.written);
    say("250 ok\r\n550 5.1.1 nobody\r\n554 5.5.1 no valid recipients\r\n");
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_FAILED);
    assert_string_equal(mail->recipients[0].words, "550 5.1.1 nobody");
    assert_int_equal(heard.trouble, TROUBLE_NONE);
    mail_free(mail);
    mail = make_mail(*state, 5);
    session_send(session, mail);
    expect_written("RSET\r\n" COMMANDS);
    say("250 reset\r\n" ACCEPTING "250 taken\r\n");
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_ACCEPTED);
    mail_free(mail);
    close_session(session);
}

/* A mail that needs no server to be decided says nothing to it, so that what was owed is owed. */
static void a_reset_stays_due_until_it_is_answered(void **state)
{
    struct session *session = opened_session();
    struct mail *mail = make_mail(*state, 5);
    session_send(session, mail);
    buffer_clear(&channel.written);
    say("250 ok\r\n550 5.1.1 nobody\r\n554 5.5.1 no valid recipients\r\n");
    mail_free(mail);
    mail = make_mail(*state, 5);
    mail->survey.eight_bit = true;
    session_send(session, mail);
    assert_int_equal(mail->recipients[0].outcome, OUTCOME_FAILED);
    assert_int_equal(channel.written.length, 0);
    mail_free(mail);
    mail = make_mail(*state, 5);
    session_send(session, mail);
    expect_written("RSET\r\n" COMMANDS);
    channel.callbacks->lost_cb(channel.owner, TROUBLE_UNREACHABLE, "cut");
    mail_free(mail);
    close_session(session);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(sends_one_mail_after_another),
        TEST(replies_may_come_in_any_pieces),
        TEST(large_content_keeps_the_pace_of_the_server),
        TEST(says_what_was_wrong),
        TEST(a_login_is_missing),
        TEST(a_connection_may_be_worn_out),
        TEST(a_refusal_may_come_early),
        TEST(a_stale_connection_is_no_trouble),
        TEST(ends_between_mails),
        TEST(could_not_be_opened),
        TEST(takes_so_many_mails_and_no_more),
        TEST(a_mail_in_hand_is_sent_before_quit),
        TEST(waits_for_nothing_for_ever),
        TEST(a_transaction_that_was_left_open_is_reset),
        TEST(a_reset_stays_due_until_it_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
