/* Replays: see the header. */
#include "session_replay.h"

#include "common/ascii.h"
#include "queue/path.h"
#include "queue/reader.h"
#include "smtpd/command.h"
#include "smtpd/line.h"
#include "smtpd/proxy.h"
#include "smtpd/recipients.h"
#include "smtpd/reply.h"

#include "fuzz.h"

#include <unistd.h>

struct conversation {
    struct replay *replay;
    const struct replay_talk *talk;
    struct address client;
    bool unknown;      /* and nobody was named in its place: it is a load balancer's */
    struct slice said; /* what is left of both */
    struct slice heard;
    bool secure;   /* under TLS */
    bool extended; /* it was EHLO */
    struct slice helo, sender;
    struct recipients recipients[QUEUE_COUNT];
    struct buffer chunks; /* of the message that BDAT brings */
    bool over;            /* nothing may follow */
};

/* One reply, all of its lines. */
struct answer {
    unsigned code;
    struct slice text; /* of its last line, behind the code */
};

/* The laws of a line: RFC 5321, section 4.2.1; RFC 2034, section 4. A reply of the code `bare` may be
 * without an enhanced code. */
static void check_line(struct slice line, const char *bare)
{
    LAW(line.length >= 4 && line.length + 2 <= REPLY_LINE_MAX);
    LAW(line.start[0] >= '2' && line.start[0] <= '5' && ascii_is_digit(line.start[1]) &&
        ascii_is_digit(line.start[2]));
    LAW(line.start[3] == ' ' || line.start[3] == '-');
    for (size_t i = 0; i < line.length; i++)
        LAW(line.start[i] == ' ' || ascii_is_graph(line.start[i]));
    if (memcmp(line.start, bare, 3) != 0 && line.start[0] != '3')
        LAW(line.length > 10 && line.start[4] == line.start[0] && line.start[5] == '.' &&
            ascii_is_digit(line.start[6]) && line.start[7] == '.' && ascii_is_digit(line.start[8]));
}

/* The next reply; false when there is none, or not all of it: the connection ended within. */
static bool take_answer(struct conversation *conversation, const char *bare, struct answer *answer)
{
    struct slice rest = conversation->heard;

    *answer = (struct answer){0};
    for (;;) {
        const char *end = rest.length > 0 ? memmem(rest.start, rest.length, "\r\n", 2) : NULL;
        struct slice line;
        unsigned code;

        if (end == NULL)
            return false;
        line = slice_make(rest.start, (size_t)(end - rest.start));
        check_line(line, bare);
        rest = slice_from(rest, line.length + 2);
        code = (unsigned)(line.start[0] - '0') * 100 + (unsigned)(line.start[1] - '0') * 10 +
               (unsigned)(line.start[2] - '0');
        LAW(answer->code == 0 || answer->code == code);
        answer->code = code;
        answer->text = slice_from(line, 4);
        if (line.start[3] == ' ')
            break;
    }
    LAW(!conversation->over);
    conversation->heard = rest;
    conversation->over = answer->code == 421 || answer->code == 221;
    return true;
}

static void end_transaction(struct conversation *conversation)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        recipients_free(&conversation->recipients[queue]);
    buffer_clear(&conversation->chunks);
    conversation->sender = (struct slice){0};
}

/* Messages. */

static char *read_message(struct conversation *conversation, enum queue queue, const char *id,
                          struct reader *reader)
{
    char *bytes;

    LAW(reader_open(reader, conversation->replay->spool, queue, QUEUE_NEW, id) == READER_OK);
    bytes = malloc(reader->envelope.size + 1);
    LAW(bytes != NULL && reader_read(reader, bytes, reader->envelope.size) == 0);
    return bytes;
}

/* RFC 3848, RFC 6531: there is no SMTPS for those who say HELO. */
static void check_protocol(const struct conversation *conversation, const char *protocol)
{
    bool utf8 = strncmp(protocol, "UTF8SMTP", 8) == 0;
    const char *plain = utf8 ? "UTF8SMTP" : conversation->extended ? "ESMTP" : "SMTP";
    bool marked = conversation->secure && (utf8 || conversation->extended);

    LAW(strncmp(protocol, plain, strlen(plain)) == 0);
    LAW(strcmp(protocol + strlen(plain), marked ? "S" : "") == 0);
}

static void check_envelope(const struct conversation *conversation, enum queue queue,
                           const struct envelope *envelope)
{
    const struct recipients *recipients = &conversation->recipients[queue];
    char client[ADDRESS_TEXT_SIZE];

    address_text(&conversation->client, client);
    LAW(strcmp(envelope->client_address, client) == 0);
    LAW(envelope->client_port == conversation->client.port);
    LAW(slice_equals(slice_of(envelope->from), conversation->sender));
    check_protocol(conversation, envelope->protocol);
    LAW(slice_equals(slice_of(envelope->helo), conversation->helo));
    LAW(envelope->recipients_count == recipients->count);
    for (size_t i = 0; i < envelope->recipients_count; i++)
        LAW(strcmp(envelope->recipients[i], recipients->mailboxes[i]) == 0);
}

/* Two fields, whatever the client said of itself; one, where it is relayed. */
static void check_trace(enum queue queue, struct slice trace)
{
    size_t fields = 0;

    LAW(trace.length > 2 && memcmp(trace.start + trace.length - 2, "\r\n", 2) == 0);
    LAW(slice_starts_nocase(trace,
                            slice_of(queue == QUEUE_STORE ? "Return-Path: <" : "Received: from ")));
    while (trace.length > 0) {
        const char *end = memmem(trace.start, trace.length, "\r\n", 2);
        LAW(end != NULL && end > trace.start);
        if (trace.start[0] != '\t')
            fields++;
        trace = slice_from(trace, (size_t)(end - trace.start) + 2);
    }
    LAW(fields == (queue == QUEUE_STORE ? 2 : 1));
}

/* The file of one queue: nobody else can have it, so it goes away here. */
static void check_file(struct conversation *conversation, enum queue queue, const char *id,
                       struct slice content)
{
    int directory = conversation->replay->spool->directories[queue][QUEUE_NEW];
    struct reader reader;
    char *bytes;
    size_t size;

    if (conversation->recipients[queue].count == 0) {
        LAW(faccessat(directory, id, F_OK, 0) != 0);
        return;
    }
    bytes = read_message(conversation, queue, id, &reader);
    size = reader.envelope.size;
    check_envelope(conversation, queue, &reader.envelope);
    LAW(size > content.length);
    LAW(content.length == 0 ||
        memcmp(bytes + size - content.length, content.start, content.length) == 0);
    check_trace(queue, slice_make(bytes, size - content.length));
    free(bytes);
    reader_close(&reader);
    LAW(unlinkat(directory, id, 0) == 0);
}

/* A message was acknowledged. */
static void check_message(struct conversation *conversation, const struct answer *answer,
                          struct slice content)
{
    static const char before[] = "2.0.0 Ok: queued as ";
    char id[ID_SIZE] = "";

    LAW(answer->code == 250 && answer->text.length == sizeof before - 1 + ID_LENGTH);
    LAW(memcmp(answer->text.start, before, sizeof before - 1) == 0);
    memcpy(id, answer->text.start + sizeof before - 1, ID_LENGTH);
    LAW(id_valid(id));
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        check_file(conversation, (enum queue)queue, id, content);
}

static void end_message(struct conversation *conversation, struct slice content)
{
    struct answer answer;

    if (!take_answer(conversation, "none", &answer)) {
        conversation->replay->unanswered++;
        conversation->said.length = 0;
        return;
    }
    LAW(answer.code == 250 || answer.code / 100 == 4 || answer.code / 100 == 5);
    if (answer.code == 250)
        check_message(conversation, &answer, content);
    end_transaction(conversation);
}

/* Behind 354: RFC 5321, section 4.5.2, as it reads. */
static void take_content(struct conversation *conversation)
{
    struct slice said = conversation->said;
    char *content = malloc(said.length + 1);
    size_t at = 0, length = 0;

    LAW(content != NULL);
    for (;;) {
        const char *end =
            at < said.length ? memmem(said.start + at, said.length - at, "\r\n", 2) : NULL;
        size_t from = at;
        if (end == NULL) {
            conversation->said.length = 0; /* the end was not sent */
            break;
        }
        at = (size_t)(end - said.start) + 2;
        if (at - from == 3 && said.start[from] == '.') {
            conversation->said = slice_from(said, at);
            end_message(conversation, slice_make(content, length));
            break;
        }
        if (said.start[from] == '.')
            from++;
        memcpy(content + length, said.start + from, at - from);
        length += at - from;
    }
    free(content);
}

/* Commands. */

static void note_sender(struct conversation *conversation, struct slice argument)
{
    struct path path;
    struct slice rest;

    argument = slice_trim_start(slice_from(argument, strlen("FROM:")));
    LAW(path_parse_reverse(argument, &path, &rest));
    end_transaction(conversation);
    conversation->sender = path.mailbox;
}

/* Mail that is not stored here is a relay client's: who is none would have been refused. */
static enum queue queue_of(const struct conversation *conversation, const struct path *path)
{
    const struct replay *replay = conversation->replay;

    if (strcmp(replay->stored, "*") == 0 ||
        slice_equals_nocase(path->domain, slice_of(replay->stored)))
        return QUEUE_STORE;
    if (path_is_postmaster(path) &&
        (path->domain.length == 0 || slice_equals_nocase(path->domain, slice_of(replay->hostname))))
        return QUEUE_STORE;
    LAW(!conversation->unknown && replay->relays_for(&conversation->client));
    return QUEUE_RELAY;
}

static void note_recipient(struct conversation *conversation, struct slice argument)
{
    struct path path;
    struct slice rest;

    argument = slice_trim_start(slice_from(argument, strlen("TO:")));
    LAW(path_parse_forward(argument, &path, &rest));
    if (!slice_equals_nocase(path.domain, slice_of(conversation->replay->discarded)))
        LAW(recipients_add(&conversation->recipients[queue_of(conversation, &path)], &path));
}

/* RFC 3030: the octets belong to the command, whatever is said of it, and behind them it is said.
 * False at the end of either side, and when nobody knows where the next command begins. */
static bool take_chunk(struct conversation *conversation, struct slice argument)
{
    struct answer answer;
    uint64_t size;
    bool last, known = command_parse_chunk(argument, &size, &last);

    if (known && size <= conversation->said.length) {
        buffer_append(&conversation->chunks, conversation->said.start, size);
        conversation->said = slice_from(conversation->said, size);
    } else if (known) {
        return false;
    }
    if (!take_answer(conversation, "none", &answer)) {
        if (known && last)
            conversation->replay->unanswered++;
        return false;
    }
    if (!known) {
        LAW(answer.code == 501 || answer.code == 421);
        conversation->over = true;
        return false;
    }
    LAW(answer.code == 250 || answer.code / 100 == 4 || answer.code / 100 == 5);
    if (answer.code == 250 && last)
        check_message(conversation, &answer,
                      slice_make(conversation->chunks.data, conversation->chunks.length));
    if (answer.code != 250)
        buffer_clear(&conversation->chunks);
    else if (last)
        end_transaction(conversation);
    return answer.code != 421;
}

/* RFC 3207: what came in the clear behind STARTTLS is dropped, what was said before it forgotten. A
 * client that did not begin TLS is answered in a way that it cannot read. */
static void start_tls(struct conversation *conversation)
{
    const struct replay_talk *talk = conversation->talk;

    end_transaction(conversation);
    conversation->helo = (struct slice){0};
    conversation->secure = true;
    if (talk->heard_in_clear == 0) {
        conversation->over = true;
        conversation->heard.length = 0;
        return;
    }
    LAW(conversation->heard.start == talk->heard.start + talk->heard_in_clear);
    conversation->said = slice_from(talk->said, talk->said_in_clear);
}

/* A command that was answered with what it asked for. */
static void follow(struct conversation *conversation, const struct command *command)
{
    switch (command->verb) {
    case COMMAND_HELO:
    case COMMAND_EHLO:
        conversation->helo = command->argument;
        conversation->extended = command->verb == COMMAND_EHLO;
        end_transaction(conversation);
        break;
    case COMMAND_RSET:
        end_transaction(conversation);
        break;
    case COMMAND_STARTTLS:
        start_tls(conversation);
        break;
    case COMMAND_MAIL:
        note_sender(conversation, command->argument);
        break;
    case COMMAND_RCPT:
        note_recipient(conversation, command->argument);
        break;
    default:
        break;
    }
}

static bool is_bad(struct slice line)
{
    return line.length > 0 && (memchr(line.start, '\r', line.length) != NULL ||
                               memchr(line.start, '\n', line.length) != NULL ||
                               memchr(line.start, '\0', line.length) != NULL);
}

/* Some commands can be answered in but few ways, wherever they come. */
static void check_code(const struct command *command, unsigned code)
{
    switch (command->verb) {
    case COMMAND_QUIT:
        LAW(code == 221 || code / 100 == 5);
        break;
    case COMMAND_DATA:
        LAW(code == 354 || code / 100 == 4 || code / 100 == 5);
        break;
    case COMMAND_FOREIGN:
        LAW(code / 100 == 5); /* where it does not end the session, which is 421 */
        break;
    case COMMAND_UNIMPLEMENTED:
    case COMMAND_UNKNOWN:
    case COMMAND_MALFORMED:
    case COMMAND_MISUSED:
        LAW(code / 100 == 5);
        break;
    default:
        LAW(code / 100 == 2 || code / 100 == 4 || code / 100 == 5);
        break;
    }
    LAW((code == 221) == (command->verb == COMMAND_QUIT && code / 100 == 2));
    LAW((code == 354) == (command->verb == COMMAND_DATA && code / 100 == 3));
}

/* BDAT in a line that is no sound command: nobody knows where the next one begins. Refused otherwise
 * only where nothing but QUIT works, or for having come out of turn. */
static bool take_unsound_chunk(struct conversation *conversation)
{
    struct answer answer;

    if (!take_answer(conversation, "none", &answer) || answer.code == 421)
        return false;
    LAW(answer.code == 501 || answer.code == 503 || answer.code == 554);
    conversation->over = answer.code == 501;
    return !conversation->over;
}

/* The next line and its reply; false at the end of either side. */
static bool take_command(struct conversation *conversation)
{
    struct slice said = conversation->said;
    const char *end = said.length > 0 ? memmem(said.start, said.length, "\r\n", 2) : NULL;
    size_t length = end != NULL ? (size_t)(end - said.start) + 2 : said.length;
    bool too_long = length > LINE_LIMIT;
    struct command command = {.verb = COMMAND_MALFORMED};
    struct slice line = {0};
    struct answer answer;
    bool named;

    if (end == NULL && !too_long)
        return false;
    if (!too_long) {
        line = slice_make(said.start, length - 2);
        command = command_parse(line);
    }
    conversation->said = slice_from(said, length);
    if (command.verb == COMMAND_BDAT && !is_bad(line))
        return take_chunk(conversation, command.argument);
    if (command_names_chunk(slice_make(said.start, length)))
        return take_unsound_chunk(conversation);
    named = command.verb == COMMAND_HELO || command.verb == COMMAND_EHLO;
    if (!take_answer(conversation, named ? "250" : "none", &answer) || answer.code == 421)
        return false;
    if (too_long || is_bad(line)) {
        LAW(answer.code == 500 || answer.code == 503); /* 503: nothing but QUIT works */
        return true;
    }
    check_code(&command, answer.code);
    if (answer.code == 354)
        take_content(conversation);
    else if (answer.code / 100 == 2)
        follow(conversation, &command);
    return true;
}

/* Some of what is told last is told without having been asked for: that it is over. */
static void take_farewell(struct conversation *conversation)
{
    struct answer answer;

    if (take_answer(conversation, "none", &answer))
        LAW(answer.code == 421);
    LAW(conversation->heard.length == 0 ||
        memmem(conversation->heard.start, conversation->heard.length, "\r\n", 2) == NULL);
}

/* The header of a load balancer comes before everything. False when it did not. */
static bool take_header(struct conversation *conversation)
{
    struct slice said = conversation->said;
    enum proxy_status status;
    struct proxy proxy = {0};
    size_t used = proxy_feed(&proxy, said.start, said.length, &status);

    conversation->said = slice_from(said, used);
    conversation->unknown = proxy.local;
    if (status == PROXY_DONE && !proxy.local)
        conversation->client = proxy.client;
    return status == PROXY_DONE;
}

void replay_run(struct replay *replay, const struct replay_talk *talk)
{
    struct conversation conversation = {.replay = replay,
                                        .talk = talk,
                                        .client = replay->client,
                                        .said = talk->said,
                                        .heard = talk->heard};
    bool may_talk = !replay->proxied || take_header(&conversation);
    struct answer greeting;

    buffer_init(&conversation.chunks, talk->said.length + 1);
    if (take_answer(&conversation, "220", &greeting)) {
        LAW(greeting.code == 421 || (may_talk && (greeting.code == 220 || greeting.code == 554)));
        while (!conversation.over && take_command(&conversation))
            ;
        take_farewell(&conversation);
    }
    end_transaction(&conversation);
    buffer_free(&conversation.chunks);
}
