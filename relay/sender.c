/* The connections to the smarthost: see the header. */
#include "relay/sender.h"

#include "common/log.h"
#include "relay/metrics.h"

#include <stdio.h>
#include <string.h>

/* A mail that was being sent so often when trouble came waits by itself: the smarthost may have
 * nothing against the others. */
enum { TRIES_IN_TROUBLE = 2 };

/* How long a mail rests whose connection broke under it. A server that goes down takes so long to
 * say no, and one that has the message already, and could not say so, is not asked at once again.
 */
enum { REST_MS = 5 * 1000 };

/* Mails that are loaded ahead, so that no connection waits for the disk; those that rest count,
 * too. */
enum { READY_MIN = 16, READY_FOR_EACH = 4 };

static void push(struct sender *sender, struct mail *mail, bool first)
{
    struct mail **place = &sender->ready;

    while (!first && *place != NULL)
        place = &(*place)->next;
    mail->next = *place;
    *place = mail;
    sender->ready_count++;
}

static struct mail *pop(struct sender *sender)
{
    struct mail *mail = sender->ready;

    sender->ready = mail->next;
    sender->ready_count--;
    mail->next = NULL;
    return mail;
}

/* The smarthost's state. */

static void say_trouble(const struct sender *sender, enum trouble trouble, const char *words)
{
    const struct channel_options *options = &sender->options.channel;

    if (trouble_is_fault(trouble))
        log_error("smarthost_trouble", LOG_TEXT("host", options->host),
                  LOG_NUMBER("port", options->port), LOG_TEXT("why", trouble_name(trouble)),
                  LOG_TEXT("words", words), LOG_TEXT("advice", trouble_advice(trouble)));
    else
        log_warn("smarthost_trouble", LOG_TEXT("host", options->host),
                 LOG_NUMBER("port", options->port), LOG_TEXT("why", trouble_name(trouble)),
                 LOG_TEXT("words", words));
}

static void note_trouble(struct sender *sender, enum trouble trouble, const char *words)
{
    uint64_t now = uv_now(sender->loop);

    if (sender->stopping)
        return;
    if (smarthost_troubled(&sender->smarthost, trouble, now))
        say_trouble(sender, trouble, words);
    else
        log_debug("smarthost_still_in_trouble", LOG_TEXT("why", trouble_name(trouble)),
                  LOG_TEXT("words", words));
    metric_add(&relay_metrics[METRIC_TROUBLES], 1);
}

static void note_success(struct sender *sender, const struct mail *mail)
{
    if (smarthost_succeeded(&sender->smarthost, mail->began / 1000000, uv_now(sender->loop)))
        log_info("smarthost_back", LOG_TEXT("host", sender->options.channel.host));
}

/* Mails that come back. */

static void defer(struct mail *mail, enum trouble trouble, const char *words)
{
    const char *status = trouble == TROUBLE_THROTTLED ? "4.7.0" : "4.4.2";

    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN)
            mail_decide(mail, i, OUTCOME_DEFERRED, status, words, trouble != TROUBLE_THROTTLED);
}

/* Where the trouble is the host's the mail waits with the others, behind them; the second time it
 * is put off by itself, so that it cannot keep the others waiting for ever. For what only the
 * operator can mend no mail is put off. Where some recipients were accepted all the same, that is
 * recorded before the others are tried again. */
static void take_back(struct sender *sender, struct mail *mail, enum trouble trouble,
                      const char *words)
{
    if (sender->stopping || mail_has(mail, OUTCOME_ACCEPTED)) {
        sender->done_cb(sender->owner, mail);
    } else if (trouble_is_fault(trouble) || ++mail->tries < TRIES_IN_TROUBLE) {
        push(sender, mail, false);
    } else {
        defer(mail, trouble, words);
        sender->done_cb(sender->owner, mail);
    }
}

static void rest_cb(uv_timer_t *timer);

/* The list is in the order of time, for all rest as long. */
static void rest(struct sender *sender, struct mail *mail)
{
    struct mail **place = &sender->resting;

    mail->rests_until = uv_now(sender->loop) + REST_MS;
    mail->next = NULL;
    while (*place != NULL)
        place = &(*place)->next;
    *place = mail;
    sender->resting_count++;
    if (!uv_is_active((uv_handle_t *)&sender->rest))
        uv_timer_start(&sender->rest, rest_cb, REST_MS, 0);
}

static void rest_cb(uv_timer_t *timer)
{
    struct sender *sender = timer->data;
    uint64_t now = uv_now(sender->loop);

    while (sender->resting != NULL && sender->resting->rests_until <= now) {
        struct mail *mail = sender->resting;
        sender->resting = mail->next;
        sender->resting_count--;
        push(sender, mail, false);
    }
    if (sender->resting != NULL)
        uv_timer_start(&sender->rest, rest_cb, sender->resting->rests_until - now, 0);
}

/* A connection broke that had served: it may be that connection alone, or that message, or the
 * host, which the next connection will show. Only what the message does is decided here. */
static void take_back_broken(struct sender *sender, struct mail *mail, const char *words,
                             enum session_retry retry)
{
    if (sender->stopping) {
        sender->done_cb(sender->owner, mail);
    } else if (retry == SESSION_RETRY_NOW) {
        push(sender, mail, true);
    } else if (++mail->tries < TRIES_IN_TROUBLE) {
        rest(sender, mail);
    } else {
        defer(mail, TROUBLE_UNREACHABLE, words);
        sender->done_cb(sender->owner, mail);
    }
}

/* Recipients are left for another transaction, and there is nothing to be recorded before it. */
static bool wants_more(const struct mail *mail)
{
    return mail->error == 0 && mail_has(mail, OUTCOME_AGAIN) && !mail_has(mail, OUTCOME_ACCEPTED);
}

static void done_cb(void *owner, struct session *session, struct mail *mail, enum trouble trouble,
                    const char *words, enum session_retry retry)
{
    struct sender *sender = owner;

    (void)session;
    metric_observe(&relay_metrics[METRIC_SECONDS], (double)(uv_hrtime() - mail->began) / 1e9);
    if (retry != SESSION_RETRY_NONE) {
        take_back_broken(sender, mail, words, retry);
    } else if (trouble != TROUBLE_NONE) {
        note_trouble(sender, trouble, words);
        take_back(sender, mail, trouble, words);
    } else {
        if (mail->error == 0)
            note_success(sender, mail);
        if (wants_more(mail) && !sender->stopping)
            push(sender, mail, true);
        else
            sender->done_cb(sender->owner, mail);
    }
}

/* Sessions. */

static void idle_cb(void *owner, struct session *session)
{
    (void)owner;
    (void)session; /* the turn of the loop will see it, or whoever just gave it a mail */
}

/* cppcheck-suppress constParameter ; a callback has the type that is called */
static void gone_cb(void *owner, struct session *session, enum trouble trouble, const char *words)
{
    struct sender *sender = owner;
    size_t i = 0;

    while (sender->sessions[i] != session)
        i++;
    sender->sessions[i] = sender->sessions[--sender->session_count];
    if (trouble != TROUBLE_NONE)
        note_trouble(sender, trouble, words);
}

static size_t count_in(const struct sender *sender, enum session_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < sender->session_count; i++)
        count += session_state(sender->sessions[i]) == state;
    return count;
}

static void send_ready(struct sender *sender)
{
    size_t sending = count_in(sender, SESSION_SENDING);

    for (size_t i = 0; i < sender->session_count; i++) {
        struct session *session = sender->sessions[i];

        /* A mail that needs no server to be decided comes back at once. */
        while (session_state(session) == SESSION_IDLE && sender->ready_count > 0 &&
               sending < sender->smarthost.limit) {
            struct mail *mail = pop(sender);

            mail->began = uv_hrtime();
            session_send(session, mail);
        }
        sending = count_in(sender, SESSION_SENDING);
    }
}

static void open_sessions(struct sender *sender)
{
    static const struct session_callbacks callbacks = {
        .idle_cb = idle_cb, .done_cb = done_cb, .gone_cb = gone_cb};
    size_t opening = count_in(sender, SESSION_OPENING);

    while (opening < sender->ready_count && sender->session_count < sender->smarthost.limit) {
        struct session *session = session_open(sender->loop, &sender->options, &callbacks, sender);

        if (session == NULL) {
            note_trouble(sender, TROUBLE_UNREACHABLE, "out of memory");
            return;
        }
        sender->sessions[sender->session_count++] = session;
        metric_add(&relay_metrics[METRIC_CONNECTIONS], 1);
        opening++;
    }
}

static void retry_cb(uv_timer_t *timer)
{
    (void)timer;
}

void sender_turn(struct sender *sender)
{
    uint64_t now = uv_now(sender->loop);

    metric_set_value(&relay_metrics[METRIC_OPEN], (double)sender->session_count);
    metric_set_value(&relay_metrics[METRIC_UP], sender->smarthost.trouble == TROUBLE_NONE);
    if (sender->stopping)
        return;
    if (!smarthost_is_open(&sender->smarthost, now)) {
        if (!uv_is_active((uv_handle_t *)&sender->retry))
            uv_timer_start(&sender->retry, retry_cb, smarthost_wait(&sender->smarthost, now), 0);
        return;
    }
    send_ready(sender);
    /* A mail may have come back at once, and put the host into trouble. */
    if (smarthost_is_open(&sender->smarthost, now))
        open_sessions(sender);
}

void sender_start(struct sender *sender, uv_loop_t *loop, const struct session_options *options,
                  size_t connections)
{
    *sender = (struct sender){.loop = loop, .options = *options};
    smarthost_init(&sender->smarthost, connections);
    uv_timer_init(loop, &sender->retry);
    uv_timer_init(loop, &sender->rest);
    sender->retry.data = sender->rest.data = sender;
}

void sender_add(struct sender *sender, struct mail *mail)
{
    if (sender->stopping)
        sender->done_cb(sender->owner, mail);
    else
        push(sender, mail, false);
}

size_t sender_wants(const struct sender *sender)
{
    size_t most = READY_MIN + READY_FOR_EACH * sender->smarthost.connections;
    size_t have = sender->ready_count + sender->resting_count;

    if (sender->stopping || !smarthost_is_open(&sender->smarthost, uv_now(sender->loop)))
        return 0;
    return have < most ? most - have : 0;
}

void sender_hurry(struct sender *sender)
{
    smarthost_hurry(&sender->smarthost, uv_now(sender->loop));
    uv_timer_stop(&sender->retry);
}

void sender_return(struct sender *sender)
{
    while (sender->resting != NULL) {
        struct mail *mail = sender->resting;
        sender->resting = mail->next;
        sender->resting_count--;
        push(sender, mail, false);
    }
    uv_timer_stop(&sender->rest);
    while (sender->ready_count > 0)
        sender->done_cb(sender->owner, pop(sender));
}

/* Those that have gone leave the array, so it is gone through from its end. */
void sender_stop(struct sender *sender)
{
    sender->stopping = true;
    sender_return(sender);
    for (size_t i = sender->session_count; i-- > 0;)
        session_quit(sender->sessions[i]);
    uv_close((uv_handle_t *)&sender->retry, NULL);
    uv_close((uv_handle_t *)&sender->rest, NULL);
}

void sender_abort(struct sender *sender)
{
    for (size_t i = sender->session_count; i-- > 0;)
        session_abort(sender->sessions[i]);
}
