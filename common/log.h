/* Logging to stderr: one event a line, in logfmt, at most 1,000 bytes, never blocking.
 *
 *     log_info("accepted", LOG_TEXT("id", id), LOG_NUMBER("rcpt", count));
 *     level=info event=accepted id=0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10 rcpt=2
 *
 * The supervisor's logger adds the time. A value that has anything but harmless printable ASCII in
 * it is quoted, and every other byte in it is escaped, so that what a peer sent can forge neither
 * a field nor a line nor a terminal sequence. A line that stderr cannot take at once is dropped and
 * counted; the next one that passes is preceded by `level=warn event=log_lost lines=n`.
 *
 * Thread: any; a line is one write. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_field_type {
    LOG_FIELD_END,
    LOG_FIELD_TEXT,
    LOG_FIELD_BYTES,
    LOG_FIELD_NUMBER,
    LOG_FIELD_REAL
};

enum { LOG_LINE_MAX = 1000, LOG_VALUE_MAX = 400 };

struct log_field {
    const char *name;
    enum log_field_type type;
    const char *text; /* TEXT: terminated, NULL is logged as empty; BYTES: `length` bytes */
    size_t length;
    int64_t number;
    double real;
};

/* Fields of a line. A value is cut after LOG_VALUE_MAX bytes (escapes counted) and ends in `...`.
 */
#define LOG_TEXT(field, value)                                                                     \
    ((struct log_field){.name = (field), .type = LOG_FIELD_TEXT, .text = (value)})
#define LOG_BYTES(field, value, size)                                                              \
    ((struct log_field){                                                                           \
        .name = (field), .type = LOG_FIELD_BYTES, .text = (value), .length = (size)})
#define LOG_NUMBER(field, value)                                                                   \
    ((struct log_field){.name = (field), .type = LOG_FIELD_NUMBER, .number = (int64_t)(value)})
#define LOG_REAL(field, value)                                                                     \
    ((struct log_field){.name = (field), .type = LOG_FIELD_REAL, .real = (value)})
/* The text of an errno value, as field `error`. */
#define LOG_ERRNO(code)       LOG_TEXT("error", log_errno_text(code))

#define LOG_EVENT(level, ...) LOG_EVENT_(level, __VA_ARGS__, LOG_FIELDS_END)
#define LOG_FIELDS_END        ((struct log_field){.type = LOG_FIELD_END})
#define LOG_EVENT_(level, event, ...)                                                              \
    (log_wanted(level) ? log_event(level, event, (const struct log_field[]){__VA_ARGS__}) : (void)0)

#define log_error(...) LOG_EVENT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  LOG_EVENT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  LOG_EVENT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) LOG_EVENT(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* The least urgent level that is written; info until set. */
void log_set_level(enum log_level level);
bool log_wanted(enum log_level level);

/* Writes a line. `fields` ends with LOG_FIELD_END. Use the macros. */
void log_event(enum log_level level, const char *event, const struct log_field *fields);

/* Formats a line, with its newline, into `line`; returns its length, at most LOG_LINE_MAX.
 * Pure; what log_event writes. */
size_t log_format(char line[static LOG_LINE_MAX], enum log_level level, const char *event,
                  const struct log_field *fields);

/* strerror in a thread's own storage, valid until the thread's next call. */
const char *log_errno_text(int code);

#endif
