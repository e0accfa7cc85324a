/* A smarthost that says anything: the input is what it offers, a message, and all that it replies,
 * parted by lines of one `%`. The message is sent to several recipients in as many transactions as
 * that takes. What is written is SMTP, everybody has an outcome when it says so, the content comes out
 * of it as it went in, and all is the same in any fragmentation. */
#include "relay/content.h"
#include "relay/extensions.h"
#include "relay/survey.h"
#include "relay/transaction.h"

#include "common/utf8.h"
#include "fuzz.h"

enum { RECIPIENTS = 6, TRANSACTIONS_MAX = 2 * RECIPIENTS };

struct conversation {
    struct mail mail;
    struct recipient recipients[RECIPIENTS];
    struct extensions extensions;
    struct transaction transaction;
    struct reply_parser parser;
    struct slice content;
    enum fuzz_cut cut;
    unsigned transactions;
    size_t left; /* recipients that the transaction under way began with */
    bool over;
    struct buffer said; /* by us, and at the end who came to what */
};

static struct slice take_part(struct slice *rest)
{
    const char *end = rest->length > 0 ? memmem(rest->start, rest->length, "%\n", 2) : NULL;
    struct slice part = slice_make(rest->start, end != NULL ? (size_t)(end - rest->start) : 0);

    if (end == NULL) {
        part = *rest;
        rest->length = 0;
        return part;
    }
    *rest = slice_from(*rest, part.length + 2);
    return part;
}

static void read_offer(struct slice offer, struct extensions *extensions)
{
    while (offer.length > 0) {
        const char *end = memchr(offer.start, '\n', offer.length);
        size_t length = end != NULL ? (size_t)(end - offer.start) + 1 : offer.length;
        char *exact = fuzz_copy(offer.start, length);

        extensions_read(extensions, slice_make(exact, length));
        free(exact);
        offer = slice_from(offer, length);
    }
}

/* Content. */

/* Lines as RFC 5321, section 4.5.2, has them, with each way to end one taken for the same. */
static void normalise(struct slice content, struct buffer *plain)
{
    bool begun = false;

    for (size_t i = 0; i < content.length; i++) {
        char c = content.start[i];

        if (c == '\r' || c == '\n') {
            if (c == '\r' && i + 1 < content.length && content.start[i + 1] == '\n')
                i++;
            buffer_append(plain, "\r\n", 2);
        } else {
            buffer_append(plain, &c, 1);
        }
        begun = c != '\r' && c != '\n';
    }
    if (begun)
        buffer_append(plain, "\r\n", 2);
}

/* Takes lines as a server does, up to the end of data, which is the end of it all. */
static void unstuff(struct slice sent, struct buffer *plain)
{
    for (;;) {
        const char *end = memchr(sent.start, '\n', sent.length);
        size_t length, dot;

        LAW(end != NULL && end > sent.start && end[-1] == '\r');
        length = (size_t)(end - sent.start) + 1;
        LAW(memchr(sent.start, '\r', length) == end - 1);
        dot = sent.start[0] == '.' ? 1 : 0;
        if (dot == 1 && length == 3) {
            LAW(sent.length == 3);
            return;
        }
        buffer_append(plain, sent.start + dot, length - dot);
        sent = slice_from(sent, length);
    }
}

static void send_content(struct conversation *conversation)
{
    struct slice left = conversation->content;
    struct buffer sent, plain, want;
    struct content content;

    buffer_init(&sent, SIZE_MAX);
    buffer_init(&plain, SIZE_MAX);
    buffer_init(&want, SIZE_MAX);
    content_init(&content);
    while (left.length > 0) {
        size_t piece = fuzz_piece(conversation->cut, left.start, left.length);
        size_t before = sent.length;
        char octet[1], *exact = fuzz_hold(left.start, piece, octet);

        LAW(content_encode(&content, exact, piece, &sent));
        LAW(sent.length - before <= 2 * piece + 3);
        fuzz_let_go(exact, octet);
        left = slice_from(left, piece);
    }
    LAW(content_end(&content, &sent));
    unstuff(slice_make(sent.data, sent.length), &plain);
    normalise(conversation->content, &want);
    LAW(!plain.failed && !want.failed);
    LAW(slice_equals(slice_make(plain.data, plain.length), slice_make(want.data, want.length)));
    LAW(buffer_append_string(&conversation->said, "(content)"));
    buffer_free(&sent);
    buffer_free(&plain);
    buffer_free(&want);
}

static void survey(struct conversation *conversation)
{
    struct slice left = conversation->content;

    survey_init(&conversation->mail.survey);
    while (left.length > 0) {
        size_t piece = fuzz_piece(conversation->cut, left.start, left.length);
        char octet[1], *exact = fuzz_hold(left.start, piece, octet);

        survey_read(&conversation->mail.survey, exact, piece);
        fuzz_let_go(exact, octet);
        left = slice_from(left, piece);
    }
}

/* What is said. */

static void check_commands(const struct conversation *conversation, struct slice lines)
{
    static const char *const starts[] = {"RSET\r", "MAIL FROM:<", "RCPT TO:<", "DATA\r", ".\r"};

    while (lines.length > 0) {
        const char *end = memchr(lines.start, '\n', lines.length);
        size_t length, which = 0;

        LAW(end != NULL && end > lines.start && end[-1] == '\r');
        length = (size_t)(end - lines.start) + 1;
        for (size_t i = 0; i + 2 < length; i++)
            LAW((unsigned char)lines.start[i] >= ' ' && lines.start[i] != 0x7f);
        while (which < 5 && !slice_starts_nocase(lines, slice_of(starts[which])))
            which++;
        LAW(which < 5);
        /* Nobody is to have a message of nothing. */
        LAW(which != 4 || conversation->transaction.accepted == 0);
        /* Behind DATA nothing may be said before it is answered (RFC 2920, section 3.1). */
        LAW(which != 3 || length == lines.length);
        lines = slice_from(lines, length);
    }
}

static void check_reply(const struct reply *reply)
{
    struct slice text = slice_of(reply->text);

    LAW(reply->code >= 200 && reply->code < 600);
    LAW(text.length >= 3 && text.length <= REPLY_TEXT_MAX && atoi(reply->text) == reply->code);
    LAW(strlen(reply->status) >= 5 && reply->status[0] == reply->text[0]);
    while (text.length > 0) {
        size_t step = (unsigned char)text.start[0] < 0x80 ? 1 : utf8_sequence(text);

        LAW(step > 0 && (unsigned char)text.start[0] >= ' ' && text.start[0] != 0x7f);
        text = slice_from(text, step);
    }
}

static size_t count(const struct conversation *conversation, enum outcome outcome)
{
    size_t found = 0;

    for (size_t i = 0; i < RECIPIENTS; i++)
        found += conversation->recipients[i].outcome == outcome;
    return found;
}

static size_t count_left(const struct conversation *conversation)
{
    return count(conversation, OUTCOME_OPEN) + count(conversation, OUTCOME_AGAIN);
}

static void begin(struct conversation *conversation, bool reset);

/* Each transaction comes to something, or a mail would be sent for ever. */
static void finish(struct conversation *conversation)
{
    const struct transaction *transaction = &conversation->transaction;
    size_t left = count_left(conversation);

    LAW(!transaction_awaits_reply(transaction));
    if (transaction->trouble != TRANSACTION_FINE) {
        conversation->over = true;
        return;
    }
    LAW(count(conversation, OUTCOME_OPEN) == 0);
    LAW(left < conversation->left);
    conversation->over = left == 0;
    if (left > 0)
        begin(conversation, transaction_is_open(transaction));
}

static void advance(struct conversation *conversation)
{
    struct transaction *transaction = &conversation->transaction;
    size_t start = conversation->said.length;

    if (transaction->state == TRANSACTION_ENVELOPE) {
        transaction_write(transaction, &conversation->said);
        LAW(!conversation->said.failed);
        check_commands(conversation, slice_make(conversation->said.data + start,
                                                conversation->said.length - start));
        /* It waits for the server, or it would wait for ever. */
        LAW(transaction_awaits_reply(transaction));
    }
    if (transaction->state == TRANSACTION_CONTENT) {
        send_content(conversation);
        transaction_sent(transaction);
        LAW(transaction_awaits_reply(transaction));
    }
    if (transaction->state == TRANSACTION_BROKEN) {
        LAW(transaction->trouble != TRANSACTION_FINE);
        LAW(!transaction_awaits_reply(transaction));
        conversation->over = true;
    }
    if (transaction->state == TRANSACTION_DONE)
        finish(conversation);
}

static void begin(struct conversation *conversation, bool reset)
{
    LAW(++conversation->transactions <= TRANSACTIONS_MAX);
    conversation->left = count_left(conversation);
    transaction_begin(&conversation->transaction, &conversation->mail, &conversation->extensions,
                      reset);
    LAW(!reset || transaction_is_open(&conversation->transaction));
    advance(conversation);
}

static void hear(struct conversation *conversation, const struct reply *reply)
{
    struct transaction *transaction = &conversation->transaction;
    size_t accepted = count(conversation, OUTCOME_ACCEPTED);
    bool ending = transaction->state == TRANSACTION_END;

    check_reply(reply);
    transaction_reply(transaction, reply);
    LAW(count(conversation, OUTCOME_ACCEPTED) == accepted || (ending && reply->code / 100 == 2));
    advance(conversation);
}

static void hear_all(struct conversation *conversation, const char *bytes, size_t length)
{
    struct slice input = slice_make(bytes, length);

    while (input.length > 0 && !conversation->over) {
        size_t left = input.length;

        switch (reply_parse(&conversation->parser, &input)) {
        case REPLY_INCOMPLETE:
            LAW(input.length == 0);
            break;
        case REPLY_COMPLETE:
            LAW(input.length < left);
            hear(conversation, &conversation->parser.reply);
            break;
        case REPLY_MALFORMED:
        case REPLY_TOO_LONG:
            conversation->over = true;
            break;
        }
    }
}

static void converse(struct conversation *conversation, struct slice replies)
{
    static const char *const addresses[RECIPIENTS] = {
        "a@there.example", "b@there.example",       "c@[192.0.2.1]",
        "postmaster",      "\"d >\"@there.example", "gr\xc3\xbc\xc3\x9f@there.example"};
    struct envelope *envelope = &conversation->mail.reader.envelope;

    buffer_init(&conversation->said, SIZE_MAX);
    conversation->mail.recipients = conversation->recipients;
    conversation->mail.count = RECIPIENTS;
    for (size_t i = 0; i < RECIPIENTS; i++)
        conversation->recipients[i].address = addresses[i];
    conversation->recipients[RECIPIENTS - 1].non_ascii = true;
    envelope->from = "";
    envelope->protocol = conversation->content.length % 2 == 0 ? "ESMTPS" : "UTF8SMTPS";
    envelope->size = conversation->content.length;
    survey(conversation);
    reply_parser_init(&conversation->parser);
    begin(conversation, false);
    while (replies.length > 0 && !conversation->over) {
        size_t piece = fuzz_piece(conversation->cut, replies.start, replies.length);
        char octet[1], *exact = fuzz_hold(replies.start, piece, octet);

        hear_all(conversation, exact, piece);
        fuzz_let_go(exact, octet);
        replies = slice_from(replies, piece);
    }
    for (size_t i = 0; i < RECIPIENTS; i++) {
        const struct recipient *recipient = &conversation->recipients[i];

        LAW(buffer_printf(&conversation->said, "%d %s %s\n", (int)recipient->outcome,
                          recipient->status, recipient->words != NULL ? recipient->words : ""));
        free(recipient->words);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct conversation conversations[FUZZ_CUT_COUNT] = {0};

    for (enum fuzz_cut cut = FUZZ_WHOLE; cut < FUZZ_CUT_COUNT; cut++) {
        struct conversation *conversation = &conversations[cut], *first = &conversations[0];
        struct slice rest = slice_make((const char *)bytes, size);

        conversation->cut = cut;
        read_offer(take_part(&rest), &conversation->extensions);
        conversation->content = take_part(&rest);
        converse(conversation, rest);
        LAW(slice_equals(slice_make(conversation->said.data, conversation->said.length),
                         slice_make(first->said.data, first->said.length)));
    }
    for (enum fuzz_cut cut = FUZZ_WHOLE; cut < FUZZ_CUT_COUNT; cut++)
        buffer_free(&conversations[cut].said);
    return 0;
}
