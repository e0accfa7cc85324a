/* Content as it is sent: see the header. */
#include "relay/content.h"

#include <string.h>

void content_init(struct content *content)
{
    *content = (struct content){.line_start = true};
}

static void end_line(struct content *content, struct buffer *out)
{
    buffer_append(out, "\r\n", 2);
    content->line_start = true;
    content->cr = false;
}

/* Bytes without a line end among them. */
static void add_text(struct content *content, const char *bytes, size_t length, struct buffer *out)
{
    if (content->line_start && bytes[0] == '.')
        buffer_append(out, ".", 1);
    buffer_append(out, bytes, length);
    content->line_start = false;
}

bool content_encode(struct content *content, const char *bytes, size_t length, struct buffer *out)
{
    const char *end = bytes + length;

    while (bytes < end) {
        size_t text = 0;
        /* Behind a CR the line has ended: an LF belongs to that end, anything else to the next
         * line. */
        if (content->cr) {
            end_line(content, out);
            if (*bytes == '\n') {
                bytes++;
                continue;
            }
        }
        while (bytes + text < end && bytes[text] != '\r' && bytes[text] != '\n')
            text++;
        if (text > 0)
            add_text(content, bytes, text, out);
        bytes += text;
        if (bytes == end)
            break;
        if (*bytes == '\r')
            content->cr = true;
        else
            end_line(content, out);
        bytes++;
    }
    return !out->failed;
}

bool content_end(struct content *content, struct buffer *out)
{
    if (content->cr || !content->line_start)
        end_line(content, out);
    return buffer_append(out, ".\r\n", 3);
}
