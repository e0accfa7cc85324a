/* A connection to the smarthost: see the header. Callbacks of channel, pool and clock only say what
 * happened; one function, advance, looks at the transaction and does what is next. */
#include "relay/session.h"

#include "common/fault.h"
#include "relay/content.h"
#include "relay/transaction.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* For the reply to QUIT, which says nothing that matters. */
enum { QUIT_MS = 2000 };

/* How long a connection that nobody has used is new. */
enum { FRESH_MS = 100 };

enum { SESSION_WORDS_MAX = 500 };

struct session {
    uv_loop_t *loop;
    const struct session_options *options;
    const struct session_callbacks *callbacks;
    void *owner;
    enum session_state state;
    bool quitting;           /* QUIT follows the mail that is being sent */
    struct channel *channel; /* NULL once it is closed */
    struct extensions extensions;
    struct reply_parser parser;
    struct buffer out; /* what is to be written next, or nothing */
    size_t kept;       /* by the channel: it is written when drained_cb comes */
    uv_timer_t timer;
    bool timer_closed;

    uint64_t opened_at; /* in uv_now */
    struct mail *mail;  /* SENDING */
    unsigned mails;     /* sent so far */
    struct transaction transaction;
    bool reset;         /* the server may still have a transaction open */
    bool answered;      /* a reply came in this transaction */
    bool content_begun; /* the first piece was asked for */
    struct content content;
    uv_work_t work;
    bool working; /* the pool has the mail */

    enum trouble trouble; /* why it ended, while the pool has the mail */
    char words[SESSION_WORDS_MAX + 1];
};

static void session_release(struct session *session)
{
    if (!session->timer_closed || session->working)
        return;
    buffer_free(&session->out);
    free(session);
}

static void timer_closed_cb(uv_handle_t *handle)
{
    struct session *session = handle->data;

    session->timer_closed = true;
    session_release(session);
}

static void timeout_cb(uv_timer_t *timer);

static void watch_clock(struct session *session, uint64_t milliseconds)
{
    uv_timer_start(&session->timer, timeout_cb, milliseconds, 0);
}

static void close_channel(struct session *session)
{
    if (session->channel != NULL)
        channel_close(session->channel);
    session->channel = NULL;
}

/* 421 to MAIL over a connection that has served: many servers end a connection so after a number of
 * messages. If it was meant for all of us the next connection will hear it, too. */
static bool is_worn_out(const struct session *session)
{
    return session->trouble == TROUBLE_THROTTLED && session->mails > 0 &&
           !session->transaction.mail_answered;
}

/* The end, once nobody else has the mail. The words were kept, for they are the caller's and it may
 * free them in between. */
static void finish(struct session *session)
{
    struct mail *mail = session->mail;
    enum trouble trouble = session->trouble;
    enum session_retry retry = SESSION_RETRY_NONE;

    session->mail = NULL;
    if (mail != NULL) {
        if (is_worn_out(session)) {
            retry = SESSION_RETRY_NOW;
            trouble = TROUBLE_NONE;
        } else if (trouble == TROUBLE_UNREACHABLE && session->mails > 0) {
            retry = session->answered ? SESSION_RETRY_SOON : SESSION_RETRY_NOW;
            trouble = TROUBLE_NONE;
        }
        session->callbacks->done_cb(session->owner, session, mail, trouble, session->words, retry);
        trouble = TROUBLE_NONE;
    }
    session->callbacks->gone_cb(session->owner, session, trouble, session->words);
    uv_close((uv_handle_t *)&session->timer, timer_closed_cb);
}

static void end(struct session *session, enum trouble trouble, const char *words)
{
    size_t length = strnlen(words, SESSION_WORDS_MAX);

    if (session->state == SESSION_GONE)
        return;
    session->state = SESSION_GONE;
    session->trouble = trouble;
    memcpy(session->words, words, length);
    session->words[length] = '\0';
    uv_timer_stop(&session->timer);
    close_channel(session);
    if (!session->working)
        finish(session);
}

static void timeout_cb(uv_timer_t *timer)
{
    struct session *session = timer->data;

    if (session->state == SESSION_IDLE)
        session_quit(session);
    else if (session->state == SESSION_QUITTING)
        end(session, TROUBLE_NONE, "");
    else if (session->transaction.state == TRANSACTION_CONTENT)
        end(session, TROUBLE_UNREACHABLE, "the smarthost takes no content");
    else
        end(session, TROUBLE_UNREACHABLE, "the smarthost does not reply");
}

static void write_out(struct session *session)
{
    session->kept = channel_write(session->channel, session->out.data, session->out.length);
    buffer_clear(&session->out);
}

/* Content. */

static void read_cb(uv_work_t *work)
{
    struct session *session = work->data;

    mail_read(session->mail);
}

static void rewind_cb(uv_work_t *work)
{
    struct session *session = work->data;

    mail_rewind(session->mail);
}

static void send_content(struct session *session);

static void piece_cb(uv_work_t *work, int status)
{
    struct session *session = work->data;

    (void)status; /* never cancelled */
    session->working = false;
    if (session->state == SESSION_GONE) {
        finish(session);
    } else if (session->mail->error != 0) {
        /* The content cannot be ended but by saying that this was all of it. */
        end(session, TROUBLE_NONE, "");
    } else {
        send_content(session);
    }
}

static void begin_work(struct session *session, uv_work_cb run_cb)
{
    session->working = true;
    uv_queue_work(session->loop, &session->work, run_cb, piece_cb);
}

/* Sends the piece that is there. The next one is read when this one is with the kernel: the
 * smarthost's window is the pace. */
static void send_content(struct session *session)
{
    struct mail *mail = session->mail;
    bool last = mail->reader.position >= mail->reader.envelope.size;

    content_encode(&session->content, mail->piece, mail->piece_length, &session->out);
    if (last)
        content_end(&session->content, &session->out);
    if (session->out.failed) {
        mail->error = ENOMEM;
        end(session, TROUBLE_NONE, "");
        return;
    }
    if (last)
        FAULT_POINT("session.end");
    write_out(session);
    if (last) {
        FAULT_POINT("session.ended");
        transaction_sent(&session->transaction);
        watch_clock(session, 2 * session->options->reply_ms);
        return;
    }
    watch_clock(session, session->options->reply_ms);
    if (session->kept == 0)
        begin_work(session, read_cb);
}

/* A mail that was being sent before has been read on. */
static void begin_content(struct session *session)
{
    session->content_begun = true;
    content_init(&session->content);
    if (session->mail->reader.position == session->mail->piece_length)
        send_content(session);
    else
        begin_work(session, rewind_cb);
}

/* Mails. */

static const enum trouble troubles[] = {
    [TRANSACTION_FINE] = TROUBLE_NONE,
    [TRANSACTION_THROTTLED] = TROUBLE_THROTTLED,
    [TRANSACTION_LOGIN] = TROUBLE_CREDENTIALS,
    [TRANSACTION_PROTOCOL] = TROUBLE_PROTOCOL,
};

static void become_idle(struct session *session)
{
    unsigned most = session->options->mails;

    if (session->extensions.mails_max > 0 && session->extensions.mails_max < most)
        most = (unsigned)session->extensions.mails_max;
    session->state = SESSION_IDLE;
    if (session->quitting || session->mails >= most) {
        session_quit(session);
        return;
    }
    watch_clock(session, session->options->idle_ms);
    session->callbacks->idle_cb(session->owner, session);
}

static void finish_mail(struct session *session)
{
    const struct transaction *transaction = &session->transaction;
    struct mail *mail = session->mail;

    session->mail = NULL;
    session->mails++;
    session->reset = transaction_is_open(transaction);
    if (transaction->learned > 0)
        session->extensions.recipients_max = transaction->learned;
    session->callbacks->done_cb(session->owner, session, mail, troubles[transaction->trouble],
                                transaction->cause.text, SESSION_RETRY_NONE);
    become_idle(session);
}

static void advance(struct session *session)
{
    const struct transaction *transaction = &session->transaction;

    switch (transaction->state) {
    case TRANSACTION_ENVELOPE:
        transaction_write(&session->transaction, &session->out);
        if (session->out.failed)
            end(session, TROUBLE_NONE, "");
        else if (session->out.length > 0)
            write_out(session);
        break;
    case TRANSACTION_CONTENT:
        if (!session->content_begun)
            begin_content(session);
        break;
    case TRANSACTION_END:
        break;
    case TRANSACTION_DONE:
        finish_mail(session);
        break;
    case TRANSACTION_BROKEN:
        end(session, troubles[transaction->trouble], transaction->cause.text);
        break;
    }
}

void session_send(struct session *session, struct mail *mail)
{
    assert(session->state == SESSION_IDLE);
    session->state = SESSION_SENDING;
    session->mail = mail;
    session->answered = false;
    session->content_begun = false;
    transaction_begin(&session->transaction, mail, &session->extensions, session->reset);
    watch_clock(session, session->options->reply_ms);
    advance(session);
}

/* What the server says. */

/* A connection may end at any time between two mails; but not as soon as it is open, or we would
 * make the next at once, and the next. */
static bool may_end(const struct session *session)
{
    bool fresh = session->mails == 0 && uv_now(session->loop) - session->opened_at < FRESH_MS;

    return session->state == SESSION_QUITTING || (session->state == SESSION_IDLE && !fresh);
}

/* Nobody asked for it: a server that goes down, or that has enough of us, may say so at any time
 * (RFC 5321, section 3.8). */
static void take_unasked(struct session *session, const struct reply *reply)
{
    bool refusal = session->state == SESSION_SENDING &&
                   session->transaction.state == TRANSACTION_CONTENT && reply->code >= 400;

    if (reply->code == 421 && !may_end(session)) {
        end(session, TROUBLE_THROTTLED, reply->text);
    } else if (refusal) {
        transaction_refused_early(&session->transaction, reply);
        end(session, troubles[session->transaction.trouble], reply->text);
    } else {
        end(session, may_end(session) ? TROUBLE_NONE : TROUBLE_PROTOCOL, reply->text);
    }
}

static void take_reply(struct session *session, const struct reply *reply)
{
    bool asked =
        session->state == SESSION_SENDING && transaction_awaits_reply(&session->transaction);

    if (!asked) {
        take_unasked(session, reply);
        return;
    }
    session->answered = true;
    watch_clock(session, session->options->reply_ms);
    transaction_reply(&session->transaction, reply);
    advance(session);
}

static void received_cb(void *owner, const char *bytes, size_t length)
{
    struct session *session = owner;
    struct slice input = slice_make(bytes, length);

    while (input.length > 0 && session->state != SESSION_GONE) {
        switch (reply_parse(&session->parser, &input)) {
        case REPLY_INCOMPLETE:
            break;
        case REPLY_COMPLETE:
            take_reply(session, &session->parser.reply);
            break;
        case REPLY_MALFORMED:
            end(session, TROUBLE_PROTOCOL, "the smarthost's reply is none");
            break;
        case REPLY_TOO_LONG:
            end(session, TROUBLE_PROTOCOL, "the smarthost's reply has no end");
            break;
        }
    }
}

static void opened_cb(void *owner, const struct extensions *extensions)
{
    struct session *session = owner;

    session->extensions = *extensions;
    session->opened_at = uv_now(session->loop);
    become_idle(session);
}

static void drained_cb(void *owner)
{
    struct session *session = owner;

    session->kept = 0;
    if (session->state != SESSION_SENDING || session->working ||
        session->transaction.state != TRANSACTION_CONTENT)
        return;
    watch_clock(session, session->options->reply_ms);
    begin_work(session, read_cb);
}

static void lost_cb(void *owner, enum trouble trouble, const char *words)
{
    struct session *session = owner;

    end(session, may_end(session) ? TROUBLE_NONE : trouble, words);
}

struct session *session_open(uv_loop_t *loop, const struct session_options *options,
                             const struct session_callbacks *callbacks, void *owner)
{
    static const struct channel_callbacks of_channel = {.opened_cb = opened_cb,
                                                        .received_cb = received_cb,
                                                        .drained_cb = drained_cb,
                                                        .lost_cb = lost_cb};
    struct session *session = calloc(1, sizeof *session);

    if (session == NULL)
        return NULL;
    *session =
        (struct session){.loop = loop, .options = options, .callbacks = callbacks, .owner = owner};
    session->channel = channel_open(loop, &options->channel, &of_channel, session);
    if (session->channel == NULL) {
        free(session);
        return NULL;
    }
    reply_parser_init(&session->parser);
    /* A window of commands, or a piece of content in which every byte is doubled. */
    buffer_init(&session->out, (size_t)4 * MAIL_PIECE);
    uv_timer_init(loop, &session->timer);
    session->timer.data = session->work.data = session;
    return session;
}

enum session_state session_state(const struct session *session)
{
    return session->state;
}

void session_quit(struct session *session)
{
    static const char quit[] = "QUIT\r\n";

    switch (session->state) {
    case SESSION_OPENING:
        end(session, TROUBLE_NONE, "");
        break;
    case SESSION_IDLE:
        session->state = SESSION_QUITTING;
        watch_clock(session, QUIT_MS);
        channel_write(session->channel, quit, sizeof quit - 1);
        break;
    case SESSION_SENDING:
        session->quitting = true;
        break;
    case SESSION_QUITTING:
    case SESSION_GONE:
        break;
    }
}

void session_abort(struct session *session)
{
    end(session, TROUBLE_UNREACHABLE, "stopping");
}
