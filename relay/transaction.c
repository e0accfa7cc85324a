/* A mail transaction: see the header. Replies come in the order of the commands, so which command a
 * reply belongs to is known by counting, and what it means is a table of command and class of reply. */
#include "relay/transaction.h"

#include "queue/spool.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum command { COMMAND_RSET, COMMAND_MAIL, COMMAND_RCPT, COMMAND_DATA, COMMAND_END, COMMANDS };

/* Classes of replies (RFC 5321, section 4.2.1): 2xx to 5xx. */
enum class { CLASS_DONE, CLASS_GO_ON, CLASS_LATER, CLASS_NEVER, CLASSES };

/* What needs no server. */

static bool header_needs_utf8(const struct mail *mail)
{
    static const char protocol[] = "UTF8SMTP";

    return mail->survey.eight_bit_header &&
           strncmp(mail->reader.envelope.protocol, protocol, sizeof protocol - 1) == 0;
}

static void fail_open(struct mail *mail, const char *status, const char *words, bool utf8_only)
{
    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN &&
            (!utf8_only || mail->recipients[i].non_ascii))
            mail_decide(mail, i, OUTCOME_FAILED, status, words, true);
}

static void fail_unsendable(struct mail *mail, const struct extensions *extensions)
{
    if (mail->survey.hops > QUEUE_HOPS_MAX)
        fail_open(mail, "5.4.6",
                  "the message has come through too many servers: it goes in circles", false);
    if (mail->survey.eight_bit && !extensions->eight_bit)
        fail_open(mail, "5.6.3", "the smarthost does not offer 8BITMIME, which this message needs",
                  false);
    if (extensions->utf8)
        return;
    if (header_needs_utf8(mail))
        fail_open(mail, "5.6.9",
                  "the smarthost does not offer SMTPUTF8, which the header of this message needs",
                  false);
    fail_open(mail, "5.6.7", "the smarthost does not offer SMTPUTF8, which this address needs",
              !mail->sender_non_ascii);
}

/* Whether those that are left need SMTPUTF8. */
static bool needs_utf8(const struct transaction *transaction)
{
    const struct mail *mail = transaction->mail;

    if (mail->sender_non_ascii || header_needs_utf8(mail))
        return true;
    for (size_t i = 0; i < transaction->limit; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN && mail->recipients[i].non_ascii)
            return true;
    return false;
}

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
    fail_unsendable(mail, extensions);
    while (transaction->limit < mail->count && (most == 0 || count < most))
        count += mail->recipients[transaction->limit++].outcome == OUTCOME_OPEN;
    transaction->next = transaction->answering = next_open(transaction, 0);
    transaction->utf8 = needs_utf8(transaction);
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

static void broken(struct transaction *transaction, const struct reply *reply)
{
    (void)reply;
    transaction->state = TRANSACTION_BROKEN;
    transaction->trouble = TRANSACTION_PROTOCOL;
}

static bool is_throttling(const struct reply *reply)
{
    return reply->code == 454 || (reply->code / 100 == 4 && strcmp(reply->status, "4.7.0") == 0);
}

/* Who has no outcome keeps none, and nobody else is asked. */
static void throttled(struct transaction *transaction)
{
    transaction->trouble = TRANSACTION_THROTTLED;
    transaction->next = transaction->limit;
}

/* What was said of all of them: of those that RCPT took, or of all that are open where it was MAIL. */
static void decide_all(struct transaction *transaction, const struct reply *reply, bool taken_only,
                       enum outcome outcome)
{
    struct mail *mail = transaction->mail;

    if (outcome == OUTCOME_DEFERRED && is_throttling(reply)) {
        throttled(transaction);
        return;
    }
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
    if (mail_is_refused(transaction))
        return;
    transaction->mail->recipients[recipient].taken = true;
    transaction->accepted++;
}

/* Too many for one transaction (RFC 5321, section 4.5.3.1.10): 452, which may have a status that says
 * that it is something else. */
static bool is_too_many(const struct reply *reply)
{
    return strcmp(reply->status + 1, ".5.3") == 0 ||
           (reply->code == 452 && strcmp(reply->status, "4.0.0") == 0);
}

static void rcpt_later(struct transaction *transaction, const struct reply *reply)
{
    size_t recipient = take_answering(transaction);

    if (mail_is_refused(transaction))
        return;
    if (transaction->accepted > 0 && is_too_many(reply))
        transaction->mail->recipients[recipient].outcome = OUTCOME_AGAIN;
    else if (is_throttling(reply))
        throttled(transaction);
    else
        mail_decide(transaction->mail, recipient, OUTCOME_DEFERRED, reply->status, reply->text,
                    false);
}

static void rcpt_never(struct transaction *transaction, const struct reply *reply)
{
    size_t recipient = take_answering(transaction);

    if (mail_is_refused(transaction))
        return;
    /* 552 was 452 once, and RFC 5321 wants it heard as that. */
    if (transaction->accepted > 0 && reply->code == 552 && is_too_many(reply))
        transaction->mail->recipients[recipient].outcome = OUTCOME_AGAIN;
    else
        mail_decide(transaction->mail, recipient, OUTCOME_FAILED, reply->status, reply->text,
                    false);
}

/* DATA went out before it was known that nobody would be accepted: RFC 2920, section 3.1, has the
 * client end the data at once. */
static void data_go_on(struct transaction *transaction, const struct reply *reply)
{
    (void)reply;
    transaction->data_sent = false;
    if (transaction->accepted > 0)
        transaction->state = TRANSACTION_CONTENT;
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
    decide_all(transaction, reply, true, OUTCOME_FAILED);
}

static void end_accepted(struct transaction *transaction, const struct reply *reply)
{
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

/* Nothing is awaited and nothing more will be sent. Who was not asked for want of room goes into the
 * next transaction; where the host wants less of us nobody is hurried. */
static void finish(struct transaction *transaction)
{
    struct mail *mail = transaction->mail;

    transaction->state = TRANSACTION_DONE;
    if (transaction->trouble != TRANSACTION_FINE)
        return;
    for (size_t i = transaction->limit; i < mail->count; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN)
            mail->recipients[i].outcome = OUTCOME_AGAIN;
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
        transaction->state = TRANSACTION_BROKEN;
        transaction->trouble = TRANSACTION_THROTTLED;
        return;
    }
    handlers[answered_command(transaction)][reply->code / 100 - 2](transaction, reply);
    if (is_over(transaction))
        finish(transaction);
}

void transaction_sent(struct transaction *transaction)
{
    assert(transaction->state == TRANSACTION_CONTENT);
    transaction->state = TRANSACTION_END;
}

bool transaction_is_open(const struct transaction *transaction)
{
    return transaction->mail_accepted && !transaction->ended;
}
