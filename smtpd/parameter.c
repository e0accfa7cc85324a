/* Parameters: see the header. */
#include "smtpd/parameter.h"

#include "common/ascii.h"

#include <stddef.h>

/* RFC 1870, section 3: at most 20 digits. */
enum { SIZE_DIGITS_MAX = 20 };

struct parameter {
    struct slice keyword;
    struct slice value;
    bool has_value;
};

static bool parse_size(const struct parameter *parameter, struct parameters *parameters)
{
    struct slice digits = parameter->value;
    uint64_t size = 0;

    if (digits.length == 0 || digits.length > SIZE_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < digits.length; i++) {
        if (!ascii_is_digit(digits.start[i]))
            return false;
        if (__builtin_mul_overflow(size, 10u, &size) ||
            __builtin_add_overflow(size, (uint64_t)(digits.start[i] - '0'), &size))
            size = UINT64_MAX;
    }
    parameters->size = size;
    return true;
}

/* Nothing depends on what is declared: content is kept octet by octet in any case. */
static bool parse_body(const struct parameter *parameter, struct parameters *parameters)
{
    (void)parameters;
    return slice_equals_nocase(parameter->value, slice_of("7BIT")) ||
           slice_equals_nocase(parameter->value, slice_of("8BITMIME"));
}

static bool parse_utf8(const struct parameter *parameter, struct parameters *parameters)
{
    parameters->utf8 = true;
    return !parameter->has_value;
}

static bool parse_auth(const struct parameter *parameter, struct parameters *parameters)
{
    (void)parameters;
    return slice_equals(parameter->value, slice_of("<>"));
}

static const struct {
    const char *keyword;
    bool (*parse)(const struct parameter *parameter, struct parameters *parameters);
} known[] = {
    {"SIZE", parse_size},
    {"BODY", parse_body},
    {"SMTPUTF8", parse_utf8},
    {"AUTH", parse_auth},
};

enum { KNOWN_COUNT = sizeof known / sizeof known[0] };

static bool is_keyword(struct slice text)
{
    if (text.length == 0 || !ascii_is_alnum(text.start[0]))
        return false;
    for (size_t i = 1; i < text.length; i++)
        if (!ascii_is_alnum(text.start[i]) && text.start[i] != '-')
            return false;
    return true;
}

/* Cuts the next word off `*text`, which begins with at least one space, as RFC 5321 has it. */
static bool next_word(struct slice *text, struct slice *word)
{
    size_t length = 0;

    if (text->start[0] != ' ')
        return false;
    *text = slice_trim_start(*text);
    while (length < text->length && text->start[length] != ' ')
        length++;
    *word = slice_make(text->start, length);
    *text = slice_from(*text, length);
    return true;
}

static bool split_word(struct slice word, struct parameter *parameter)
{
    size_t at = 0;

    for (size_t i = 0; i < word.length; i++)
        if (!ascii_is_graph(word.start[i]))
            return false;
    while (at < word.length && word.start[at] != '=')
        at++;
    *parameter = (struct parameter){.keyword = slice_make(word.start, at)};
    if (at < word.length) {
        parameter->has_value = true;
        parameter->value = slice_from(word, at + 1);
    }
    return is_keyword(parameter->keyword) && (!parameter->has_value || parameter->value.length > 0);
}

static size_t find_known(struct slice keyword)
{
    size_t i = 0;

    while (i < KNOWN_COUNT && !slice_equals_nocase(keyword, slice_of(known[i].keyword)))
        i++;
    return i;
}

enum parameter_status parameter_parse_mail(struct slice text, struct parameters *parameters)
{
    bool given[KNOWN_COUNT] = {false};

    *parameters = (struct parameters){0};
    text = slice_trim_end(text);
    while (text.length > 0) {
        struct parameter parameter;
        struct slice word;
        size_t which;

        if (!next_word(&text, &word) || !split_word(word, &parameter))
            return PARAMETER_BAD;
        which = find_known(parameter.keyword);
        if (which == KNOWN_COUNT)
            return PARAMETER_UNKNOWN;
        if (given[which] || !known[which].parse(&parameter, parameters))
            return PARAMETER_BAD;
        given[which] = true;
    }
    return PARAMETER_OK;
}

enum parameter_status parameter_parse_rcpt(struct slice text)
{
    struct parameter parameter;
    struct slice word;

    text = slice_trim_end(text);
    if (text.length == 0)
        return PARAMETER_OK;
    if (!next_word(&text, &word) || !split_word(word, &parameter))
        return PARAMETER_BAD;
    return PARAMETER_UNKNOWN;
}
