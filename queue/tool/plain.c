/* Text that harms no terminal: see the header. */
#include "queue/tool/plain.h"

#include "common/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool shows_utf8;

void plain_set_utf8(bool utf8)
{
    shows_utf8 = utf8;
}

/* Of a valid sequence of more than one octet. */
static uint32_t code_point(const unsigned char *bytes, size_t length)
{
    static const unsigned char masks[] = {0, 0, 0x1f, 0x0f, 0x07};
    uint32_t code = bytes[0] & masks[length];

    for (size_t i = 1; i < length; i++)
        code = code << 6 | (bytes[i] & 0x3f);
    return code;
}

/* Controls, and what is invisible or moves what stands around it. */
static bool is_harmful(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0x80, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},   {0x200b, 0x200f},   {0x2028, 0x202e},
        {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    }
    return false;
}

static bool is_itself(unsigned char byte, enum plain_mode mode)
{
    if (mode == PLAIN_TEXT && (byte == '\n' || byte == '\t'))
        return true;
    return byte >= ' ' && byte < 0x7f && (byte != '\\' || mode == PLAIN_TEXT);
}

/* Says in `text` what stands for the bytes at `bytes`, the first of which is not itself. Returns
 * how many bytes that are; 0: that cannot be told yet. */
static size_t spell(char text[static 16], const char *bytes, size_t length, enum plain_mode mode,
                    bool last)
{
    unsigned char byte = (unsigned char)bytes[0];

    if (mode == PLAIN_TEXT && byte == '\r') {
        text[0] = '\0';
        if (length == 1 && !last)
            return 0;
        if (length > 1 && bytes[1] == '\n')
            return 1; /* the line end is the LF behind it */
    }
    if (shows_utf8 && byte >= 0x80) {
        size_t sequence = utf8_sequence(slice_make(bytes, length));
        if (sequence == 0 && !last && length < 4)
            return 0;
        if (sequence > 0) {
            uint32_t code = code_point((const unsigned char *)bytes, sequence);
            if (is_harmful(code))
                snprintf(text, 16, "\\u%04x", (unsigned)code);
            else
                snprintf(text, 16, "%.*s", (int)sequence, bytes);
            return sequence;
        }
    }
    snprintf(text, 16, byte == '\\' ? "\\\\" : "\\x%02x", byte);
    return 1;
}

/* A character is taken for a column: what is wider only moves the rest of its line. */
static size_t columns_of(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static size_t write_counted(FILE *out, const char *bytes, size_t length, enum plain_mode mode,
                            bool last, size_t *columns)
{
    char text[16];
    size_t done = 0;

    while (done < length) {
        size_t run = done;
        while (run < length && is_itself((unsigned char)bytes[run], mode))
            run++;
        (void)fwrite(bytes + done, 1, run - done, out); /* ferror knows at the end */
        *columns += run - done;
        done = run;
        if (done == length)
            break;
        size_t used = spell(text, bytes + done, length - done, mode, last);
        if (used == 0)
            break;
        fputs(text, out);
        *columns += columns_of(text);
        done += used;
    }
    return done;
}

size_t plain_write(FILE *out, const char *bytes, size_t length, enum plain_mode mode, bool last)
{
    size_t columns = 0;

    return write_counted(out, bytes, length, mode, last, &columns);
}

void plain_field(FILE *out, const char *text, size_t width)
{
    size_t column = 0;

    write_counted(out, text, strlen(text), PLAIN_FIELD, true, &column);
    for (; column < width; column++)
        putc(' ', out);
}

char *plain_utf8(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t length = strlen(text), size = 0;
    char *copy = malloc(3 * length + 1);

    for (size_t i = 0; copy != NULL && i < length;) {
        unsigned char byte = (unsigned char)text[i];
        size_t sequence = byte < 0x7f ? 1 : utf8_sequence(slice_make(text + i, length - i));
        memcpy(copy + size, sequence > 0 ? text + i : replacement, sequence > 0 ? sequence : 3);
        size += sequence > 0 ? sequence : 3;
        i += sequence > 0 ? sequence : 1;
    }
    if (copy != NULL)
        copy[size] = '\0';
    return copy;
}
