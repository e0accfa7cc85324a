/* Verbs: see the header. */
#include "smtpd/command.h"

#include "common/ascii.h"

enum argument { ARGUMENT_ANY, ARGUMENT_NONE, ARGUMENT_NEEDED };

static const struct {
    const char *name;
    enum command_verb verb;
    enum argument argument;
} verbs[] = {
    {"MAIL", COMMAND_MAIL, ARGUMENT_NEEDED},
    {"RCPT", COMMAND_RCPT, ARGUMENT_NEEDED},
    {"DATA", COMMAND_DATA, ARGUMENT_NONE},
    /* A malformed argument of BDAT is worse than a mistake: see command_parse_chunk. */
    {"BDAT", COMMAND_BDAT, ARGUMENT_ANY},
    {"EHLO", COMMAND_EHLO, ARGUMENT_NEEDED},
    {"HELO", COMMAND_HELO, ARGUMENT_NEEDED},
    {"QUIT", COMMAND_QUIT, ARGUMENT_NONE},
    {"RSET", COMMAND_RSET, ARGUMENT_NONE},
    {"NOOP", COMMAND_NOOP, ARGUMENT_ANY},
    {"HELP", COMMAND_HELP, ARGUMENT_ANY},
    {"VRFY", COMMAND_VRFY, ARGUMENT_NEEDED},
    {"STARTTLS", COMMAND_STARTTLS, ARGUMENT_NONE},
    /* Known, and answered 502 rather than 500 (RFC 5321, section 4.2.4), so that a client can tell
     * a server without the extension from a typing error. XCLIENT is no verb of any RFC. */
    {"EXPN", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"TURN", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"SEND", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"SOML", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"SAML", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"ETRN", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"ATRN", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"AUTH", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    {"BURL", COMMAND_UNIMPLEMENTED, ARGUMENT_ANY},
    /* A browser that was lured here sends a request whose body an attacker chose: it must not be
     * read as commands. */
    {"GET", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"POST", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"PUT", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"HEAD", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"PATCH", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"DELETE", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"OPTIONS", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"CONNECT", COMMAND_FOREIGN, ARGUMENT_ANY},
    {"TRACE", COMMAND_FOREIGN, ARGUMENT_ANY},
};

static bool argument_fits(enum argument wanted, struct slice argument)
{
    return wanted == ARGUMENT_ANY || (wanted == ARGUMENT_NONE) == (argument.length == 0);
}

static struct slice first_word(struct slice line)
{
    size_t length = 0;

    while (length < line.length && ascii_is_graph(line.start[length]))
        length++;
    return slice_make(line.start, length);
}

struct command command_parse(struct slice line)
{
    struct command command = {.verb = COMMAND_UNKNOWN};
    struct slice word = first_word(line);

    command.argument = slice_trim_start(slice_trim_end(slice_from(line, word.length)));
    if (word.length == 0 || (word.length < line.length && line.start[word.length] != ' ')) {
        command.verb = COMMAND_MALFORMED;
        return command;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!slice_equals_nocase(word, slice_of(verbs[i].name)))
            continue;
        command.verb =
            argument_fits(verbs[i].argument, command.argument) ? verbs[i].verb : COMMAND_MISUSED;
        break;
    }
    return command;
}

bool command_parse_chunk(struct slice argument, uint64_t *size, bool *last)
{
    size_t digits = 0;
    struct slice rest;

    *size = 0;
    for (; digits < argument.length && ascii_is_digit(argument.start[digits]); digits++)
        if (__builtin_mul_overflow(*size, 10u, size) ||
            __builtin_add_overflow(*size, (uint64_t)(argument.start[digits] - '0'), size))
            return false;
    rest = slice_from(argument, digits);
    *last = rest.length > 0;
    if (digits == 0 || (*last && rest.start[0] != ' '))
        return false;
    return !*last || slice_equals_nocase(slice_trim_start(rest), slice_of("LAST"));
}

bool command_names_chunk(struct slice line)
{
    return slice_starts_nocase(line, slice_of("BDAT")) &&
           (line.length == 4 || !ascii_is_alnum(line.start[4]));
}

bool command_is_proxy(struct slice line)
{
    return slice_starts_nocase(line, slice_of("PROXY "));
}

/* A line that has a CR, an LF or a NUL in it is more than one, and the second may be anything. */
static bool is_one_line(struct slice line)
{
    for (size_t i = 0; i < line.length; i++)
        if (line.start[i] == '\r' || line.start[i] == '\n' || line.start[i] == '\0')
            return false;
    return true;
}

struct slice command_loggable(struct slice line)
{
    const struct slice nothing = {0};
    struct command command = command_parse(line);

    if (!is_one_line(line))
        return nothing;
    switch (command.verb) {
    case COMMAND_UNIMPLEMENTED:
    case COMMAND_FOREIGN:
    case COMMAND_UNKNOWN:
    case COMMAND_MALFORMED:
        return nothing;
    case COMMAND_HELO:
    case COMMAND_EHLO:
        return line;
    case COMMAND_MAIL:
        if (slice_starts_nocase(command.argument, slice_of("FROM:")))
            return line;
        break;
    case COMMAND_RCPT:
        if (slice_starts_nocase(command.argument, slice_of("TO:")))
            return line;
        break;
    default:
        break;
    }
    return first_word(line);
}
