/* Replies, a byte at a time: see the header. */
#include "relay/reply.h"

#include "common/ascii.h"
#include "common/utf8.h"

#include <stdio.h>
#include <string.h>

enum { CODE_LENGTH = 3, STATUS_DIGITS = 3, STATUS_PARTS = 3 };

void reply_parser_init(struct reply_parser *parser)
{
    *parser = (struct reply_parser){.result = REPLY_INCOMPLETE};
}

/* Of the text as much is kept as there is room for; what could move a terminal or forge a line
 * becomes visible. */
static void keep(struct reply_parser *parser, char c)
{
    if (parser->length == REPLY_TEXT_MAX)
        return;
    if (c == '\t')
        c = ' ';
    parser->reply.text[parser->length++] = (char)((unsigned char)c < ' ' || c == 0x7f ? '?' : c);
}

/* A digit of the code: RFC 5321, section 4.2, has the first from 2 to 5, which is what counts.
 * Every line of a reply has the code of the first. */
static bool take_code(struct reply_parser *parser, char c)
{
    static const char least[] = "200", most[] = "599";
    bool first_line = parser->length <= parser->column;

    if (c < least[parser->column] || c > most[parser->column])
        return false;
    if (first_line)
        keep(parser, c);
    return c == parser->reply.text[parser->column];
}

static bool take_byte(struct reply_parser *parser, char c)
{
    size_t column = parser->column;
    bool good = true;

    if (column < CODE_LENGTH) {
        good = take_code(parser, c);
    } else if (column == CODE_LENGTH) {
        good = c == ' ' || c == '-';
        parser->more = c == '-';
        keep(parser, ' ');
    } else {
        keep(parser, c);
    }
    parser->column++;
    return good;
}

/* `5.1.1` behind the code (RFC 2034); else the class with zeros. */
static void find_status(struct reply *reply)
{
    const char *at = strlen(reply->text) > CODE_LENGTH ? reply->text + CODE_LENGTH + 1 : "";
    size_t length = strcspn(at, " "), digits = 0, parts = 1;

    snprintf(reply->status, sizeof reply->status, "%c.0.0", reply->text[0]);
    if (length >= sizeof reply->status || at[0] != reply->text[0] || at[1] != '.')
        return;
    for (size_t i = 0; i < length; i++) {
        if (ascii_is_digit(at[i]) && digits < STATUS_DIGITS) {
            digits++;
        } else if (at[i] == '.' && digits > 0) {
            parts++;
            digits = 0;
        } else {
            return;
        }
    }
    if (parts != STATUS_PARTS || digits == 0)
        return;
    memcpy(reply->status, at, length);
    reply->status[length] = '\0';
}

/* What is no UTF-8 becomes visible, too: also a character that was cut. */
static void mend_utf8(char *text)
{
    while (*text != '\0') {
        size_t length = ascii_is_octet(*text) ? 1 : utf8_sequence(slice_of(text));
        if (length == 0)
            *text = '?';
        text += length > 0 ? length : 1;
    }
}

static enum reply_result end_reply(struct reply_parser *parser)
{
    struct reply *reply = &parser->reply;

    while (reply->text[parser->length - 1] == ' ')
        parser->length--;
    reply->text[parser->length] = '\0';
    reply->code = (reply->text[0] - '0') * 100 + (reply->text[1] - '0') * 10 + reply->text[2] - '0';
    mend_utf8(reply->text);
    find_status(reply);
    return REPLY_COMPLETE;
}

/* A line may be the code alone. */
static enum reply_result end_line(struct reply_parser *parser)
{
    bool more = parser->more;

    if (parser->column < CODE_LENGTH)
        return REPLY_MALFORMED;
    parser->column = 0;
    parser->more = parser->cr = false;
    return more ? REPLY_INCOMPLETE : end_reply(parser);
}

static enum reply_result take(struct reply_parser *parser, char c)
{
    if (++parser->bytes > REPLY_BYTES_MAX)
        return REPLY_TOO_LONG;
    if (c == '\n')
        return end_line(parser);
    /* A CR is text unless the line ends behind it. */
    if (parser->cr && !take_byte(parser, '\r'))
        return REPLY_MALFORMED;
    parser->cr = c == '\r';
    return parser->cr || take_byte(parser, c) ? REPLY_INCOMPLETE : REPLY_MALFORMED;
}

enum reply_result reply_parse(struct reply_parser *parser, struct slice *input)
{
    if (parser->result == REPLY_COMPLETE)
        reply_parser_init(parser);
    while (parser->result == REPLY_INCOMPLETE && input->length > 0) {
        parser->result = take(parser, input->start[0]);
        *input = slice_from(*input, 1);
    }
    return parser->result;
}
