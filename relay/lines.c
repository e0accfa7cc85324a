/* Lines of a message: see the header. */
#include "relay/lines.h"

#include "common/ascii.h"

#include <string.h>

enum {
    LINE_WISHED = 78,  /* RFC 5322, section 2.1.1, CRLF not counted */
    LINE_MAX = 998,    /* the same */
    LINE_QUOTED = 76,  /* RFC 2045, section 6.7 */
    ADDRESS_MAX = 900, /* octets of an address, with what stands before it in its line */
    CHARACTER_MAX = 16 /* octets of a character that is written as \x{10FFFF} */
};

/* The octets of the UTF-8 character at `text`, 0 when it is none; its number in `*point`. */
static size_t take_character(const char *text, size_t length, unsigned *point)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)text[0];
    size_t size = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    if (size == 0 || size > length || first > 0xf4)
        return 0;
    *point = size == 1 ? first : first & (0x7fU >> size);
    for (size_t i = 1; i < size; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | ((unsigned char)text[i] & 0x3f);
    }
    return *point < least[size] || *point > 0x10ffff || (*point >= 0xd800 && *point < 0xe000)
               ? 0
               : size;
}

static size_t format_point(char out[static CHARACTER_MAX], unsigned point)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t length = 0;

    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): it goes on */
    memcpy(out, "\\x{", 3);
    length = 3;
    for (int shift = 20; shift >= 0; shift -= 4) {
        if (point >> shift != 0 || shift <= 4)
            out[length++] = digits[point >> shift & 15];
    }
    out[length++] = '}';
    return length;
}

/* What a character of words is written as; `*taken` are its octets. */
static size_t format_character(char out[static CHARACTER_MAX], const char *text, bool utf8,
                               size_t *taken)
{
    size_t left = strnlen(text, 4);
    unsigned point = 0;

    *taken = take_character(text, left, &point);
    if (*taken == 0 || point < ' ' || (point >= 0x7f && point < 0xa0)) {
        *taken = *taken > 0 ? *taken : 1;
        out[0] = '?';
        return 1;
    }
    if (point < 0x80 || utf8) {
        memcpy(out, text, *taken);
        return *taken;
    }
    return format_point(out, point);
}

/* The word at the start of `words`, as it is written, in `word`; as much of it as has room. Returns
 * what was taken. */
static size_t take_word(const char *words, bool utf8, char word[static LINE_MAX], size_t *length)
{
    size_t at = 0, taken;

    *length = 0;
    while (words[at] != '\0' && words[at] != ' ' && *length < (size_t)LINE_WISHED * 4) {
        if (at > 0 && words[at - 1] == '=' && words[at] == '?')
            break;
        *length += format_character(word + *length, words + at, utf8, &taken);
        at += taken;
    }
    return at;
}

void lines_fold(struct buffer *out, const char *words, const char *indent, bool utf8)
{
    char word[LINE_MAX];
    size_t column = 0, length;
    bool first = true;

    while (column < out->length && out->data[out->length - column - 1] != '\n')
        column++;
    for (words += strspn(words, " "); *words != '\0'; words += strspn(words, " ")) {
        words += take_word(words, utf8, word, &length);
        if (!first && column + 1 + length > LINE_WISHED) {
            buffer_printf(out, "\r\n%s", indent);
            column = strlen(indent);
        } else if (!first) {
            buffer_append_string(out, " ");
            column++;
        }
        buffer_append(out, word, length);
        column += length;
        first = false;
    }
    buffer_append_string(out, "\r\n");
}

static bool is_qchar(char c)
{
    return ascii_is_graph(c) && c != '+' && c != '=' && c != '\\';
}

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if (!ascii_is_octet(*text))
            return false;
    }
    return true;
}

void lines_address(struct buffer *out, const char *address, bool utf8)
{
    char character[CHARACTER_MAX];
    size_t start = out->length, taken, length;
    unsigned point;

    if (is_ascii(address)) {
        buffer_append_string(out, address);
        return;
    }
    for (; *address != '\0' && out->length - start < ADDRESS_MAX; address += taken) {
        taken = take_character(address, strnlen(address, 4), &point);
        if (taken == 0) {
            taken = 1;
            point = '?';
        }
        if (is_qchar(*address) || (utf8 && point >= 0x80)) {
            buffer_append(out, address, taken);
            continue;
        }
        length = format_point(character, point);
        buffer_append(out, character, length);
    }
}

/* The next line without its end, which is CRLF, LF or CR. `*ended`: it has one. */
static struct slice take_line(struct slice *text, bool *ended)
{
    size_t length = 0, end;
    struct slice line;

    while (length < text->length && text->start[length] != '\r' && text->start[length] != '\n')
        length++;
    line = slice_make(text->start, length);
    end = length;
    if (end < text->length && text->start[end] == '\r')
        end++;
    if (end < text->length && text->start[end] == '\n')
        end++;
    *ended = end > length;
    *text = slice_from(*text, end);
    return line;
}

struct slice lines_header(struct slice text, size_t max)
{
    struct slice rest = text.length > max ? slice_make(text.start, max) : text;
    bool cut = text.length > max, ended;
    size_t length = 0;

    while (rest.length > 0) {
        struct slice line = take_line(&rest, &ended);
        if (line.length == 0 || (cut && !ended))
            break;
        length = (size_t)(rest.start - text.start);
    }
    return slice_make(text.start, length);
}

static bool line_is_plain(struct slice line, bool utf8)
{
    unsigned point;
    size_t taken;

    if (line.length > LINE_MAX || (line.length >= 2 && memcmp(line.start, "--", 2) == 0))
        return false;
    for (size_t at = 0; at < line.length; at += taken) {
        taken = take_character(line.start + at, line.length - at, &point);
        if (taken == 0 || (point < ' ' && point != '\t') || point == 0x7f ||
            (point > 0x7f && !utf8))
            return false;
    }
    return true;
}

bool lines_are_plain(struct slice header, bool utf8)
{
    bool ended;

    while (header.length > 0) {
        if (!line_is_plain(take_line(&header, &ended), utf8))
            return false;
    }
    return true;
}

void lines_append(struct buffer *out, struct slice header)
{
    bool ended;

    while (header.length > 0) {
        struct slice line = take_line(&header, &ended);
        buffer_append(out, line.start, line.length);
        buffer_append_string(out, "\r\n");
    }
}

/* A hyphen is quoted at the start of a line, which could be a boundary otherwise; white space at
 * its end, which could get lost. */
static bool must_quote(struct slice line, size_t at, size_t column)
{
    char c = line.start[at];

    if (c == ' ' || c == '\t')
        return at + 1 == line.length;
    return !ascii_is_graph(c) || c == '=' || (c == '-' && column == 0);
}

static void quote_line(struct buffer *out, struct slice line)
{
    size_t column = 0;

    for (size_t at = 0; at < line.length; at++) {
        bool quoted = must_quote(line, at, column);
        size_t length = quoted ? 3 : 1;
        /* One more for the `=` of a soft line break. */
        if (column + length + 1 > LINE_QUOTED) {
            buffer_append_string(out, "=\r\n");
            column = 0;
            quoted = must_quote(line, at, column);
            length = quoted ? 3 : 1;
        }
        if (quoted)
            buffer_printf(out, "=%02X", (unsigned)(unsigned char)line.start[at]);
        else
            buffer_append(out, line.start + at, 1);
        column += length;
    }
    buffer_append_string(out, "\r\n");
}

void lines_quote(struct buffer *out, struct slice header)
{
    bool ended;

    while (header.length > 0)
        quote_line(out, take_line(&header, &ended));
}
