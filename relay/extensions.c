/* What a server offers: see the header. */
#include "relay/extensions.h"

#include "common/ascii.h"

enum { CODE_LENGTH = 4 /* `250-` */ };

/* Up to the next space. */
static struct slice take_word(struct slice *line)
{
    struct slice word;
    size_t length = 0;

    *line = slice_trim_start(*line);
    while (length < line->length && line->start[length] != ' ' && line->start[length] != '\t')
        length++;
    word = slice_make(line->start, length);
    *line = slice_from(*line, length);
    return word;
}

/* Digits and nothing else; 0 for what is no number, and a number too big is as big as can be. */
static uint64_t number_of(struct slice digits)
{
    uint64_t number = 0;

    for (size_t i = 0; i < digits.length; i++) {
        if (!ascii_is_digit(digits.start[i]))
            return 0;
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(digits.start[i] - '0'), &number))
            number = UINT64_MAX;
    }
    return number;
}

static void read_limit(struct extensions *extensions, struct slice word)
{
    static const char rcptmax[] = "RCPTMAX=", mailmax[] = "MAILMAX=";

    if (slice_starts_nocase(word, slice_of(rcptmax)))
        extensions->recipients_max = number_of(slice_from(word, sizeof rcptmax - 1));
    else if (slice_starts_nocase(word, slice_of(mailmax)))
        extensions->mails_max = number_of(slice_from(word, sizeof mailmax - 1));
}

static bool has_code(struct slice line)
{
    return line.length >= CODE_LENGTH && ascii_is_digit(line.start[0]) &&
           ascii_is_digit(line.start[1]) && ascii_is_digit(line.start[2]) &&
           (line.start[3] == ' ' || line.start[3] == '-');
}

static struct slice without_end(struct slice line)
{
    while (line.length > 0 &&
           (line.start[line.length - 1] == '\r' || line.start[line.length - 1] == '\n'))
        line.length--;
    return line;
}

void extensions_read(struct extensions *extensions, struct slice line)
{
    struct slice keyword;

    line = without_end(line);
    if (has_code(line))
        line = slice_from(line, CODE_LENGTH);
    keyword = take_word(&line);
    if (slice_equals_nocase(keyword, slice_of("PIPELINING")))
        extensions->pipelining = true;
    else if (slice_equals_nocase(keyword, slice_of("8BITMIME")))
        extensions->eight_bit = true;
    else if (slice_equals_nocase(keyword, slice_of("SMTPUTF8")))
        extensions->utf8 = true;
    if (slice_equals_nocase(keyword, slice_of("SIZE"))) {
        extensions->size = true;
        extensions->size_max = number_of(take_word(&line));
    }
    if (slice_equals_nocase(keyword, slice_of("LIMITS")))
        while ((keyword = take_word(&line)).length > 0)
            read_limit(extensions, keyword);
}
