/* A mail transaction: see the header. Replies come in the order of the commands, so which command a
 * reply belongs to is known by counting, and what it means is a table of command and class of
 * reply. */
#include "relay/transaction.h"

#include "common/fault.h"
#include "relay/needs.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum command { COMMAND_RSET, COMMAND_MAIL, COMMAND_RCPT, COMMAND_DATA, COMMAND_END, COMMANDS };

/* Classes of replies (RFC 5321, section 4.2.1): 2xx to 5xx. */
enum class { CLASS_DONE, CLASS_GO_ON, CLASS_LATER, CLASS_NEVER, CLASSES };

/* The next recipient from `at` on that is in this transaction and has no outcome yet. */
static size_t next_open(const struct transaction *transaction, size_t at)
{
    while (at < transaction->limit && transaction->mail->recipients[at].outcome != OUTCOME_OPEN)
        at++;
    return at;
}

void transaction_begin(struct transaction *transaction, struct mail *mail,
                       const struct extensions *extensions, bool reset)
{
    size_t most = extensions->recipients_max, count = 0;

    *transaction = (struct transaction){.mail = mail, .extensions = extensions, .reset = reset};
    for (size_t i = 0; i < mail->count; i++) {
        mail->recipients[i].taken = false;
        if (mail->recipients[i].outcome == OUTCOME_AGAIN)
            mail->recipients[i].outcome = OUTCOME_OPEN;
    }
    needs_refuse(mail, extensions);
    while (transaction->limit < mail->count && (most == 0 || count < most))
        count += mail->recipients[transaction->limit++].outcome == OUTCOME_OPEN;
    transaction->next = transaction->answering = next_open(transaction, 0);
    transaction->utf8 = needs_utf8(mail, transaction->limit);
    if (transaction->next == transaction->limit)
        transaction->state = TRANSACTION_DONE;
}

/* Commands. */

static bool mail_is_refused(const struct transaction *transaction)
{
    return transaction->mail_answered && !transaction->mail_accepted;
}

bool transaction_awaits_reply(const struct transaction *transaction)
{
    switch (transaction->state) {
    case TRANSACTION_ENVELOPE:
        return (transaction->reset_sent && !transaction->reset_answered) ||
               (transaction->mail_sent && !transaction->mail_answered) ||
               transaction->answered < transaction->asked || transaction->data_sent;
    case TRANSACTION_END:
        return true;
    case TRANSACTION_CONTENT:
    case TRANSACTION_DONE:
    case TRANSACTION_BROKEN:
        break;
    }
    return false;
}

/* A path was checked when its message was loaded. What is asserted here is what it could do to the
 * conversation if it had not been. */
static void write_path(struct buffer *out, const char *path)
{
    for (const char *at = path; *at != '\0'; at++)
        assert((unsigned char)*at >= ' ' && *at != 0x7f);
    buffer_append_string(out, "<");
    buffer_append_string(out, path);
    buffer_append_string(out, ">");
}

static void write_mail(struct transaction *transaction, struct buffer *out)
{
    const struct mail *mail = transaction->mail;

    buffer_append_string(out, "MAIL FROM:");
    write_path(out, mail->reader.envelope.from);
    if (transaction->extensions->size)
        buffer_printf(out, " SIZE=%" PRIu64, mail->reader.envelope.size);
    if (mail->survey.eight_bit)
        buffer_append_string(out, " BODY=8BITMIME");
    if (transaction->utf8)
        buffer_append_string(out, " SMTPUTF8");
    buffer_append_string(out, "\r\n");
    transaction->mail_sent = true;
}

static void write_rcpt(struct transaction *transaction, struct buffer *out)
{
    buffer_append_string(out, "RCPT TO:");
    write_path(out, transaction->mail->recipients[transaction->next].address);
    buffer_append_string(out, "\r\n");
    transaction->asked++;
    transaction->next = next_open(transaction, transaction->next + 1);
}

static void write_reset(struct transaction *transaction, struct buffer *out)
{
    buffer_append_string(out, "RSET\r\n");
    transaction->reset_sent = true;
}

static void write_data(struct transaction *transaction, struct buffer *out)
{
    buffer_append_string(out, "DATA\r\n");
    transaction->data_sent = true;
}

/* DATA follows while it may still be that somebody is accepted. */
static bool data_is_next(const struct transaction *transaction)
{
    return transaction->next >= transaction->limit && !transaction->data_sent &&
           (transaction->accepted > 0 || transaction->answered < transaction->asked);
}

/* Writes one command; false when there is none to be sent now. */
static bool write_command(struct transaction *transaction, struct buffer *out)
{
    if (transaction->state != TRANSACTION_ENVELOPE || mail_is_refused(transaction))
        return false;
    if (transaction->reset && !transaction->reset_sent)
        write_reset(transaction, out);
    else if (!transaction->mail_sent)
        write_mail(transaction, out);
    else if (transaction->next < transaction->limit &&
             transaction->asked - transaction->answered < TRANSACTION_WINDOW)
        write_rcpt(transaction, out);
    else if (data_is_next(transaction))
        write_data(transaction, out);
    else
        return false;
    return true;
}

void transaction_write(struct transaction *transaction, struct buffer *out)
{
    if (transaction->void_end) {
        buffer_append_string(out, ".\r\n");
        transaction->void_end = false;
        transaction->state = TRANSACTION_END;
        return;
    }
    while ((transaction->extensions->pipelining || !transaction_awaits_reply(transaction)) &&
           write_command(transaction, out))
        continue;
}

/* Replies. */

static void give_up(struct transaction *transaction, enum transaction_trouble trouble,
                    const struct reply *reply)
{
    transaction->state = TRANSACTION_BROKEN;
    transaction->trouble = trouble;
    transaction->cause = *reply;
}

static void broken(struct transaction *transaction, const struct reply *reply)
{
    give_up(transaction, TRANSACTION_PROTOCOL, reply);
}

/* We are out of step with the server, for which no message can be blamed. */
static bool is_out_of_step(const struct reply *reply)
{
    return reply->code == 503;
}

/* Nor for that it does not know us (RFC 4954, section 6; RFC 3207, section 4). */
static bool wants_login(const struct reply *reply)
{
    return reply->code == 530 || reply->code == 534 || reply->code == 535 || reply->code == 538;
}

/* 5.4.5 is congestion, which RFC 3463 knows only as something that passes: Gmail has it in `550
 * 5.4.5 Daily user sending limit exceeded`, of every message until the day is over. */
static bool is_throttling(const struct reply *reply)
{
    return reply->code == 454 || strcmp(reply->status, "4.7.0") == 0 ||
           strcmp(reply->status, "5.4.5") == 0;
}

/* What was said is no verdict about a message, but about us: then who has no outcome keeps none,
 * and nobody else is asked. */
static bool is_about_us(struct transaction *transaction, const struct reply *reply)
{
    if (!wants_login(reply) && !is_throttling(reply))
        return false;
    if (transaction->trouble == TRANSACTION_FINE) {
        transaction->trouble = wants_login(reply) ? TRANSACTION_LOGIN : TRANSACTION_THROTTLED;
        transaction->cause = *reply;
    }
    transaction->next = transaction->limit;
    return true;
}

/* What was said of all of them: of those that RCPT took, or of all that are open where it was MAIL.
 */
static void decide_all(struct transaction *transaction, const struct reply *reply, bool taken_only,
                       enum outcome outcome)
{
    struct mail *mail = transaction->mail;

    if (outcome != OUTCOME_ACCEPTED && is_about_us(transaction, reply))
        return;
    for (size_t i = 0; i < mail->count; i++) {
        const struct recipient *recipient = &mail->recipients[i];
        if (recipient->outcome == OUTCOME_OPEN && (recipient->taken || !taken_only))
            mail_decide(mail, i, outcome, reply->status, reply->text, false);
    }
}

static void reset_done(struct transaction *transaction, const struct reply *reply)
{
    (void)reply;
    transaction->reset_answered = true;
}

static void mail_accepted(struct transaction *transaction, const struct reply *reply)
{
    (void)reply;
    transaction->mail_answered = transaction->mail_accepted = true;
}

static void mail_later(struct transaction *transaction, const struct reply *reply)
{
    transaction->mail_answered = true;
    decide_all(transaction, reply, false, OUTCOME_DEFERRED);
}

static void mail_never(struct transaction *transaction, const struct reply *reply)
{
    transaction->mail_answered = true;
    if (is_out_of_step(reply))
        broken(transaction, reply);
    else
        decide_all(transaction, reply, false, OUTCOME_FAILED);
}

/* The recipient that the next reply to RCPT is about. Where MAIL was refused nobody listens. */
static size_t take_answering(struct transaction *transaction)
{
    size_t recipient = transaction->answering;

    transaction->answered++;
    transaction->answering = next_open(transaction, recipient + 1);
    return recipient;
}

static void rcpt_accepted(struct transaction *transaction, const struct reply *reply)
{
    size_t recipient = take_answering(transaction);

    (void)reply;
    if (mail_is_refused(transaction)) {
        transaction->astray = true;
        return;
    }
    transaction->mail->recipients[recipient].taken = true;
    transaction->accepted++;
}

/* Too many for one transaction (RFC 5321, section 4.5.3.1.10): 452, or 552, which is to be heard as
 * that, unless a status says that it is something else. */
static bool is_too_many(const struct reply *reply)
{
    return strcmp(reply->status + 1, ".5.3") == 0 ||
           ((reply->code == 452 || reply->code == 552) && strcmp(reply->status + 1, ".0.0") == 0);
}

/* The others are not asked now, for a server may lose patience; and those of the next transaction
 * are no more than it took in this one. */
static void again(struct transaction *transaction, size_t recipient)
{
    transaction->mail->recipients[recipient].outcome = OUTCOME_AGAIN;
    if (transaction->next < transaction->limit)
        transaction->limit = transaction->next;
    transaction->learned = transaction->accepted;
}

static void rcpt_later(struct transaction *transaction, const struct reply *reply)
{
    size_t recipient = take_answering(transaction);

    if (mail_is_refused(transaction))
        return;
    if (transaction->accepted > 0 && is_too_many(reply))
        again(transaction, recipient);
    else if (!is_about_us(transaction, reply))
        mail_decide(transaction->mail, recipient, OUTCOME_DEFERRED, reply->status, reply->text,
                    false);
}

static void rcpt_never(struct transaction *transaction, const struct reply *reply)
{
    size_t recipient = take_answering(transaction);

    if (mail_is_refused(transaction))
        return;
    if (is_out_of_step(reply)) {
        broken(transaction, reply);
        return;
    }
    if (transaction->accepted > 0 && reply->code == 552 && is_too_many(reply)) {
        again(transaction, recipient);
    } else if (!is_about_us(transaction, reply)) {
        mail_decide(transaction->mail, recipient, OUTCOME_FAILED, reply->status, reply->text,
                    false);
        transaction->refused++;
    }
}

/* DATA went out before it was known that nobody would be accepted: RFC 2920, section 3.1, has the
 * client end the data at once. */
static void data_go_on(struct transaction *transaction, const struct reply *reply)
{
    transaction->data_sent = false;
    if (transaction->accepted > 0)
        transaction->state = TRANSACTION_CONTENT;
    else if (transaction->astray)
        /* It has a transaction that we know nothing of, in which an end of data would be a message.
         */
        give_up(transaction,
                transaction->trouble != TRANSACTION_FINE ? transaction->trouble
                                                         : TRANSACTION_PROTOCOL,
                reply);
    else
        transaction->void_end = true;
}

static void data_later(struct transaction *transaction, const struct reply *reply)
{
    transaction->data_sent = false;
    transaction->data_refused = true;
    decide_all(transaction, reply, true, OUTCOME_DEFERRED);
}

static void data_never(struct transaction *transaction, const struct reply *reply)
{
    transaction->data_sent = false;
    transaction->data_refused = true;
    /* 503 is what a server says that has accepted nobody. */
    if (is_out_of_step(reply) && transaction->accepted > 0)
        broken(transaction, reply);
    else
        decide_all(transaction, reply, true, OUTCOME_FAILED);
}

static void end_accepted(struct transaction *transaction, const struct reply *reply)
{
    FAULT_POINT("transaction.accepted");
    transaction->ended = true;
    decide_all(transaction, reply, true, OUTCOME_ACCEPTED);
}

static void end_later(struct transaction *transaction, const struct reply *reply)
{
    transaction->ended = true;
    decide_all(transaction, reply, true, OUTCOME_DEFERRED);
}

static void end_never(struct transaction *transaction, const struct reply *reply)
{
    transaction->ended = true;
    decide_all(transaction, reply, true, OUTCOME_FAILED);
}

typedef void handler(struct transaction *transaction, const struct reply *reply);

static handler *const handlers[COMMANDS][CLASSES] = {
    [COMMAND_RSET] = {[CLASS_DONE] = reset_done,
                      [CLASS_GO_ON] = broken,
                      [CLASS_LATER] = broken,
                      [CLASS_NEVER] = broken},
    [COMMAND_MAIL] = {[CLASS_DONE] = mail_accepted,
                      [CLASS_GO_ON] = broken,
                      [CLASS_LATER] = mail_later,
                      [CLASS_NEVER] = mail_never},
    [COMMAND_RCPT] = {[CLASS_DONE] = rcpt_accepted,
                      [CLASS_GO_ON] = broken,
                      [CLASS_LATER] = rcpt_later,
                      [CLASS_NEVER] = rcpt_never},
    [COMMAND_DATA] = {[CLASS_DONE] = broken,
                      [CLASS_GO_ON] = data_go_on,
                      [CLASS_LATER] = data_later,
                      [CLASS_NEVER] = data_never},
    [COMMAND_END] = {[CLASS_DONE] = end_accepted,
                     [CLASS_GO_ON] = broken,
                     [CLASS_LATER] = end_later,
                     [CLASS_NEVER] = end_never},
};

static enum command answered_command(const struct transaction *transaction)
{
    if (transaction->state == TRANSACTION_END)
        return COMMAND_END;
    if (transaction->reset_sent && !transaction->reset_answered)
        return COMMAND_RSET;
    if (!transaction->mail_answered)
        return COMMAND_MAIL;
    return transaction->answered < transaction->asked ? COMMAND_RCPT : COMMAND_DATA;
}

/* Somebody that was in this transaction is done with, so that the next has fewer. */
static bool has_progressed(const struct transaction *transaction)
{
    const struct mail *mail = transaction->mail;

    for (size_t i = 0; i < mail->count; i++) {
        const struct recipient *recipient = &mail->recipients[i];
        if (recipient->taken &&
            (recipient->outcome == OUTCOME_ACCEPTED || recipient->outcome == OUTCOME_FAILED))
            return true;
    }
    return transaction->refused > 0;
}

/* Nothing is awaited and nothing more will be sent. Who was not asked for want of room goes into
 * the next transaction, unless this one has come to nothing: then all of them wait. Where the host
 * wants less of us nobody is hurried. */
static void finish(struct transaction *transaction)
{
    struct mail *mail = transaction->mail;
    const struct reply *last = &transaction->last;
    bool progressed = has_progressed(transaction);

    transaction->state = TRANSACTION_DONE;
    if (transaction->trouble != TRANSACTION_FINE)
        return;
    for (size_t i = 0; i < mail->count; i++) {
        enum outcome outcome = mail->recipients[i].outcome;
        bool left =
            outcome == OUTCOME_AGAIN || (outcome == OUTCOME_OPEN && i >= transaction->limit);
        if (left && progressed)
            mail->recipients[i].outcome = OUTCOME_AGAIN;
        else if (left)
            mail_decide(mail, i, OUTCOME_DEFERRED, last->status, last->text, false);
    }
}

static bool is_over(const struct transaction *transaction)
{
    if (transaction->state == TRANSACTION_END)
        return transaction->ended;
    if (transaction->state != TRANSACTION_ENVELOPE || transaction->void_end ||
        transaction_awaits_reply(transaction))
        return false;
    return mail_is_refused(transaction) || transaction->data_refused ||
           (transaction->mail_answered && transaction->next >= transaction->limit &&
            transaction->accepted == 0);
}

void transaction_reply(struct transaction *transaction, const struct reply *reply)
{
    assert(transaction_awaits_reply(transaction));
    transaction->last = *reply;
    if (reply->code == 421) {
        give_up(transaction, TRANSACTION_THROTTLED, reply);
        return;
    }
    handlers[answered_command(transaction)][reply->code / 100 - 2](transaction, reply);
    if (is_over(transaction))
        finish(transaction);
}

void transaction_refused_early(struct transaction *transaction, const struct reply *reply)
{
    assert(transaction->state == TRANSACTION_CONTENT);
    transaction->last = *reply;
    if (reply->code >= 500)
        end_never(transaction, reply);
    else
        end_later(transaction, reply);
    finish(transaction);
}

void transaction_sent(struct transaction *transaction)
{
    assert(transaction->state == TRANSACTION_CONTENT);
    transaction->state = TRANSACTION_END;
}

bool transaction_is_open(const struct transaction *transaction)
{
    return (transaction->mail_accepted && !transaction->ended) ||
           (transaction->reset && !transaction->reset_answered);
}
