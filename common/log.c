/* Logfmt lines on stderr that never block the program: see the header. */
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static atomic_int log_threshold = LOG_LEVEL_INFO;
static atomic_uint_fast64_t log_lost;

void log_set_level(enum log_level level)
{
    atomic_store(&log_threshold, (int)level);
}

bool log_wanted(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

const char *log_errno_text(int code)
{
    static _Thread_local char text[128];
    return strerror_r(code, text, sizeof text);
}

/* A line under construction. One byte of `line` is kept back for the newline. */
struct log_line {
    char *text;
    size_t length;
};

static bool line_put(struct log_line *line, const char *bytes, size_t length)
{
    if (length > LOG_LINE_MAX - 1 - line->length)
        return false;
    memcpy(line->text + line->length, bytes, length);
    line->length += length;
    return true;
}

static bool line_put_string(struct log_line *line, const char *string)
{
    return line_put(line, string, strlen(string));
}

/* Bytes that may stand in a value without quotes: printable ASCII but for space, `"`, `=`, `\`. */
static bool is_bare(unsigned char byte)
{
    return byte > ' ' && byte < 0x7f && byte != '"' && byte != '=' && byte != '\\';
}

static size_t escape(char out[static 4], unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    if (byte == '"' || byte == '\\') {
        out[0] = '\\';
        out[1] = (char)byte;
        return 2;
    }
    if (byte >= ' ' && byte < 0x7f) {
        out[0] = (char)byte;
        return 1;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[byte >> 4];
    out[3] = hex[byte & 15];
    return 4;
}

/* A value, quoted when it must be. It is cut, never left without its closing quote: the room for
 * `..."` is kept back all along. */
static void line_put_value(struct log_line *line, const char *bytes, size_t length)
{
    bool bare = length > 0 && length <= LOG_VALUE_MAX;
    for (size_t i = 0; bare && i < length; i++)
        bare = is_bare((unsigned char)bytes[i]);
    if (bare && line_put(line, bytes, length))
        return;

    static const char cut[] = "...\"";
    size_t room = LOG_LINE_MAX - 1 - line->length;
    if (room < sizeof cut)
        return;
    room -= sizeof cut - 1;
    if (room > LOG_VALUE_MAX)
        room = LOG_VALUE_MAX;
    size_t end = line->length + room;

    line_put(line, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        char escaped[4];
        size_t n = escape(escaped, (unsigned char)bytes[i]);
        if (line->length + n > end) {
            line_put_string(line, cut);
            return;
        }
        line_put(line, escaped, n);
    }
    line_put(line, "\"", 1);
}

static void line_put_field(struct log_line *line, const struct log_field *field)
{
    /* A field whose name and a little of its value do not fit is left out as a whole. */
    if (strlen(field->name) + sizeof " =\"...\"" > LOG_LINE_MAX - 1 - line->length)
        return;
    line_put(line, " ", 1);
    line_put_string(line, field->name);
    line_put(line, "=", 1);

    char number[32];
    switch (field->type) {
    case LOG_FIELD_TEXT:
        line_put_value(line, field->text ? field->text : "", field->text ? strlen(field->text) : 0);
        break;
    case LOG_FIELD_BYTES:
        line_put_value(line, field->text, field->length);
        break;
    case LOG_FIELD_NUMBER:
        snprintf(number, sizeof number, "%" PRId64, field->number);
        line_put_string(line, number);
        break;
    case LOG_FIELD_REAL:
        snprintf(number, sizeof number, "%.6f", field->real);
        line_put_string(line, number);
        break;
    case LOG_FIELD_END:
        break;
    }
}

size_t log_format(char text[static LOG_LINE_MAX], enum log_level level, const char *event,
                  const struct log_field *fields)
{
    struct log_line line = {.text = text};
    line_put_string(&line, "level=");
    line_put_string(&line, level_names[level]);
    line_put_string(&line, " event=");
    line_put_value(&line, event, strlen(event));
    for (; fields->type != LOG_FIELD_END; fields++)
        line_put_field(&line, fields);
    text[line.length++] = '\n';
    return line.length;
}

/* One write that does not wait. O_NONBLOCK would be the plain way, but the flag belongs to the open
 * file description, which is shared with whoever started us. So the single call is asked not to
 * wait; where the kernel knows no such call for the file, a socket has its own flag and the rest is
 * asked by poll first. A full pipe with several writers can lose a free slot between poll and
 * write: only there could a line wait, for as long as the logger is behind. */
static bool write_now(const char *line, size_t length)
{
    struct iovec iov = {.iov_base = (char *)line, .iov_len = length};
    ssize_t n = pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT);
    if (n < 0)
        n = send(STDERR_FILENO, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK) {
        struct pollfd stderr_poll = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (poll(&stderr_poll, 1, 0) != 1 || !(stderr_poll.revents & POLLOUT))
            return false;
        n = write(STDERR_FILENO, line, length);
    }
    return n == (ssize_t)length;
}

void log_event(enum log_level level, const char *event, const struct log_field *fields)
{
    int saved = errno;
    char line[LOG_LINE_MAX];
    uint_fast64_t lost = atomic_exchange(&log_lost, 0);
    if (lost > 0) {
        size_t length =
            log_format(line, LOG_LEVEL_WARN, "log_lost",
                       (const struct log_field[]){LOG_NUMBER("lines", lost), LOG_FIELDS_END});
        if (!write_now(line, length)) {
            atomic_fetch_add(&log_lost, lost + 1);
            errno = saved;
            return;
        }
    }
    size_t length = log_format(line, level, event, fields);
    if (!write_now(line, length))
        atomic_fetch_add(&log_lost, 1);
    errno = saved;
}
