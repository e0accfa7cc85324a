/* Command lines: cut the same however they come, as RFC 5321 has it, and parsed and logged within
 * their bounds. */
#include "smtpd/command.h"
#include "smtpd/line.h"

#include "fuzz.h"

#include <errno.h>
#include <strings.h>

enum { LINES_MAX = 4096 };

/* What became of the input: each line that was told of, and what of it may be logged. */
struct lines {
    enum line_status status[LINES_MAX];
    struct slice text[LINES_MAX]; /* of the input; empty for one that was too long */
    size_t count;
};

static bool has(struct slice text, char c)
{
    return text.length > 0 && memchr(text.start, c, text.length) != NULL;
}

static bool within(struct slice part, struct slice whole)
{
    return part.length == 0 ||
           (part.start >= whole.start && part.start + part.length <= whole.start + whole.length);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void check_argument(struct slice line, const struct command *command)
{
    struct slice argument = command->argument;

    LAW(within(argument, line));
    LAW(argument.length == 0 ||
        (!is_blank(argument.start[0]) && !is_blank(argument.start[argument.length - 1])));
    LAW(command->verb <= COMMAND_MISUSED);
}

/* Only what the header names may be logged with its argument. */
static void check_loggable(struct slice line, const struct command *command)
{
    struct slice shown = command_loggable(line);

    LAW(within(shown, line));
    LAW(shown.length == 0 || shown.start == line.start);
    LAW(!has(shown, '\r') && !has(shown, '\n') && !has(shown, '\0'));
    switch (command->verb) {
    case COMMAND_UNIMPLEMENTED:
    case COMMAND_FOREIGN:
    case COMMAND_UNKNOWN:
    case COMMAND_MALFORMED:
        LAW(shown.length == 0);
        break;
    case COMMAND_HELO:
    case COMMAND_EHLO:
    case COMMAND_MAIL:
    case COMMAND_RCPT:
        break;
    default:
        LAW(!has(shown, ' '));
        break;
    }
}

/* The case of letters is of no account, nor is white space at the end. */
static void check_spelling(struct slice line, const struct command *command)
{
    char *other = malloc(line.length + 1);
    struct command again;

    LAW(other != NULL);
    for (size_t i = 0; i < line.length; i++) {
        char c = line.start[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        other[i] = letter ? (char)(c ^ 0x20) : c;
    }
    other[line.length] = ' ';
    again = command_parse(slice_make(other, line.length + 1));
    LAW(again.verb == command->verb);
    LAW(again.argument.length == command->argument.length);
    LAW(slice_equals_nocase(again.argument, command->argument));
    free(other);
}

/* RFC 3030: a number, and perhaps LAST behind white space. */
static void check_chunk(struct slice argument)
{
    char *text = slice_copy(argument), *end;
    unsigned long long number;
    uint64_t size;
    bool last, good, parsed = command_parse_chunk(argument, &size, &last);

    LAW(text != NULL);
    errno = 0;
    number = strtoull(text, &end, 10);
    good = text[0] >= '0' && text[0] <= '9' && errno == 0;
    if (good && *end == ' ')
        good = strcasecmp(end + strspn(end, " \t"), "LAST") == 0;
    else
        good = good && *end == '\0';
    LAW(parsed == (good && strlen(text) == argument.length));
    if (parsed)
        LAW(size == number && last == (*end != '\0'));
    free(text);
}

static void check_line(struct slice line)
{
    char *exact = fuzz_copy(line.start, line.length);
    struct slice copy = slice_make(exact, line.length);
    struct command command = command_parse(copy);

    check_argument(copy, &command);
    check_loggable(copy, &command);
    check_spelling(copy, &command);
    check_chunk(command.argument);
    free(exact);
}

/* Adds a line that ends at `end`; its octets are those of the input. */
static void note(struct lines *lines, enum line_status status, const char *end, size_t length)
{
    LAW(lines->count < LINES_MAX);
    lines->status[lines->count] = status;
    lines->text[lines->count] = slice_make(end - length, length);
    lines->count++;
}

static void cut(enum fuzz_cut how, const char *bytes, size_t length, struct lines *lines)
{
    struct line line = {0};
    size_t at = 0;

    lines->count = 0;
    while (at < length) {
        size_t piece = fuzz_piece(how, bytes + at, length - at);
        char octet[1], *exact = fuzz_hold(bytes + at, piece, octet);
        size_t used = 0;

        while (used < piece) {
            enum line_status status;
            struct slice text = {0};
            size_t step = line_feed(&line, exact + used, piece - used, &status, &text);
            const char *end = bytes + at + used + step;

            LAW(step > 0 && step <= piece - used);
            LAW(status != LINE_NO_MEMORY);
            LAW(status != LINE_PARTIAL || step == piece - used);
            if (status == LINE_COMPLETE || status == LINE_BAD) {
                LAW(text.length + 2 <= LINE_LIMIT);
                LAW(slice_equals(text, slice_make(end - 2 - text.length, text.length)));
                note(lines, status, end - 2, text.length);
                line_reset(&line);
            } else if (status == LINE_TOO_LONG) {
                note(lines, status, end, 0);
            }
            used += step;
        }
        at += piece;
        fuzz_let_go(exact, octet);
    }
    line_reset(&line);
}

/* RFC 5321, section 2.3.8, as it reads. */
static void cut_plainly(const char *bytes, size_t length, struct lines *lines)
{
    size_t at = 0;

    lines->count = 0;
    while (at < length) {
        const char *end = memmem(bytes + at, length - at, "\r\n", 2);
        size_t next = end != NULL ? (size_t)(end - bytes) + 2 : length;
        struct slice text = slice_make(bytes + at, next - at - (end != NULL ? 2 : 0));

        if (next - at > LINE_LIMIT)
            note(lines, LINE_TOO_LONG, bytes + at + LINE_LIMIT + 1, 0);
        else if (end != NULL)
            note(lines,
                 has(text, '\r') || has(text, '\n') || has(text, '\0') ? LINE_BAD : LINE_COMPLETE,
                 end, text.length);
        at = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lines want, got;
    const char *bytes = (const char *)data;

    cut_plainly(bytes, size, &want);
    for (enum fuzz_cut how = FUZZ_WHOLE; how < FUZZ_CUT_COUNT; how++) {
        cut(how, bytes, size, &got);
        LAW(got.count == want.count);
        for (size_t i = 0; i < got.count; i++) {
            LAW(got.status[i] == want.status[i]);
            LAW(got.text[i].start == want.text[i].start);
            LAW(got.text[i].length == want.text[i].length);
        }
    }
    for (size_t i = 0; i < want.count; i++)
        if (want.status[i] == LINE_COMPLETE || want.status[i] == LINE_BAD)
            check_line(want.text[i]);
    return 0;
}
