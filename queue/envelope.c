/* The envelope codec: see the header. Strict in what it reads, since only smtpd writes envelopes:
 * whatever else lies in a queue is torn, forged or foreign, and is better set aside than guessed
 * at. */
#include "queue/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char prefix_id[] = "X-Envelope-Id: ";
static const char prefix_received[] = "X-Envelope-Received: ";
static const char prefix_client[] = "X-Envelope-Client: ";
static const char prefix_helo[] = "X-Envelope-Helo: ";
static const char prefix_protocol[] = "X-Envelope-Protocol: ";
static const char prefix_from[] = "X-Envelope-From: ";
static const char prefix_to[] = "X-Envelope-To: ";
static const char prefix_size[] = "X-Envelope-Size: ";

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    }
    return false;
}

static bool encodable(const struct envelope *envelope)
{
    if (!id_valid(envelope->id) || has_control(envelope->client_address) ||
        has_control(envelope->helo) || has_control(envelope->protocol) ||
        has_control(envelope->from))
        return false;
    for (size_t i = 0; i < envelope->recipients_count; i++) {
        if (has_control(envelope->recipients[i]))
            return false;
    }
    return true;
}

bool envelope_encode(const struct envelope *envelope, struct buffer *out)
{
    if (!encodable(envelope))
        return false;
    char received[ENVELOPE_TIME_SIZE];
    envelope_format_time(received, envelope->received);

    buffer_printf(out, "%s%s\r\n", prefix_id, envelope->id);
    buffer_printf(out, "%s%s\r\n", prefix_received, received);
    buffer_printf(out, "%s%s %u\r\n", prefix_client, envelope->client_address,
                  envelope->client_port);
    buffer_printf(out, "%s%s\r\n", prefix_helo, envelope->helo);
    buffer_printf(out, "%s%s\r\n", prefix_protocol, envelope->protocol);
    buffer_printf(out, "%s<%s>\r\n", prefix_from, envelope->from);
    for (size_t i = 0; i < envelope->recipients_count; i++)
        buffer_printf(out, "%s<%s>\r\n", prefix_to, envelope->recipients[i]);

    char digits[ENVELOPE_SIZE_DIGITS];
    envelope_encode_size(digits, envelope->size);
    buffer_append_string(out, prefix_size);
    buffer_append(out, digits, sizeof digits);
    return buffer_append_string(out, "\r\n");
}

void envelope_encode_size(char digits[static ENVELOPE_SIZE_DIGITS], uint64_t size)
{
    for (int i = ENVELOPE_SIZE_DIGITS - 1; i >= 0; i--) {
        digits[i] = (char)('0' + size % 10);
        size /= 10;
    }
}

/* The lines of the copied text, taken one after the other. */
struct lines {
    char *at;
    char *end;
};

static bool begins_with(const struct lines *lines, const char *prefix)
{
    size_t length = strlen(prefix);
    return (size_t)(lines->end - lines->at) >= length && memcmp(lines->at, prefix, length) == 0;
}

/* The value of the next line, terminated in place where its CRLF was; NULL if it does not begin with
 * `prefix`, or its value can be none. */
static char *take_value(struct lines *lines, const char *prefix)
{
    if (!begins_with(lines, prefix))
        return NULL;
    char *value = lines->at + strlen(prefix);
    char *end = memchr(value, '\n', (size_t)(lines->end - value));
    if (end == NULL || end == value || end[-1] != '\r')
        return NULL;
    end[-1] = '\0';
    lines->at = end + 1;
    return has_control(value) || strlen(value) != (size_t)(end - 1 - value) ? NULL : value;
}

/* As take_value, for a path: without its angle brackets. */
static char *take_path(struct lines *lines, const char *prefix)
{
    char *value = take_value(lines, prefix);
    size_t length = value == NULL ? 0 : strlen(value);
    if (length < 2 || value[0] != '<' || value[length - 1] != '>')
        return NULL;
    value[length - 1] = '\0';
    return value + 1;
}

static bool parse_client(char *value, struct envelope *envelope)
{
    char *space = strchr(value, ' ');
    if (space == NULL || space == value || space[1] < '0' || space[1] > '9')
        return false;
    char *end;
    unsigned long port = strtoul(space + 1, &end, 10);
    if (*end != '\0' || end - space > 6 || port > 65535)
        return false;
    *space = '\0';
    envelope->client_address = value;
    envelope->client_port = (unsigned)port;
    return true;
}

static bool parse_size(const char *value, uint64_t *size)
{
    if (strlen(value) != ENVELOPE_SIZE_DIGITS ||
        strspn(value, "0123456789") != ENVELOPE_SIZE_DIGITS)
        return false;
    *size = strtoull(value, NULL, 10);
    return true;
}

static size_t count_lines(const char *text, size_t length)
{
    size_t count = 0;
    for (const char *at = text; (at = memchr(at, '\n', length - (size_t)(at - text))) != NULL; at++)
        count++;
    return count;
}

static bool parse_recipients(struct lines *lines, struct envelope *envelope)
{
    /* Each line must be a recipient: one that is not would be passed over without a word. */
    while (begins_with(lines, prefix_to)) {
        char *recipient = take_path(lines, prefix_to);
        if (recipient == NULL || recipient[0] == '\0')
            return false;
        envelope->recipients[envelope->recipients_count++] = recipient;
    }
    return envelope->recipients_count > 0;
}

/* Returns what is wrong, or NULL. */
static const char *parse_lines(struct lines *lines, struct envelope *envelope)
{
    char *value;
    if ((envelope->id = take_value(lines, prefix_id)) == NULL || !id_valid(envelope->id))
        return "bad or missing X-Envelope-Id";
    if ((value = take_value(lines, prefix_received)) == NULL ||
        !envelope_parse_time(value, &envelope->received))
        return "bad or missing X-Envelope-Received";
    if ((value = take_value(lines, prefix_client)) == NULL || !parse_client(value, envelope))
        return "bad or missing X-Envelope-Client";
    if ((envelope->helo = take_value(lines, prefix_helo)) == NULL)
        return "bad or missing X-Envelope-Helo";
    if ((envelope->protocol = take_value(lines, prefix_protocol)) == NULL)
        return "bad or missing X-Envelope-Protocol";
    if ((envelope->from = take_path(lines, prefix_from)) == NULL)
        return "bad or missing X-Envelope-From";
    if (!parse_recipients(lines, envelope))
        return "bad or missing X-Envelope-To";
    if ((value = take_value(lines, prefix_size)) == NULL || !parse_size(value, &envelope->size))
        return "bad or missing X-Envelope-Size";
    return NULL;
}

/* Where the envelope ends: behind the first line that begins with X-Envelope-Size. A line that is
 * none of ours, or longer than any of ours, ends the search, so that a large foreign file is not
 * read to its end. */
static enum envelope_status find_end(const char *bytes, size_t length, size_t *end,
                                     const char **why)
{
    size_t at = 0;
    static const char ours[] = "X-Envelope-";
    for (;;) {
        size_t rest = length - at;
        size_t compared = rest < sizeof ours - 1 ? rest : sizeof ours - 1;
        if (memcmp(bytes + at, ours, compared) != 0) {
            *why = at == 0 ? "no envelope" : "an envelope without X-Envelope-Size";
            return ENVELOPE_BAD;
        }
        const char *newline = memchr(bytes + at, '\n', rest);
        if ((newline == NULL ? rest : (size_t)(newline - bytes) - at + 1) > ENVELOPE_LINE_MAX) {
            *why = "an envelope line is too long";
            return ENVELOPE_BAD;
        }
        if (newline == NULL)
            return ENVELOPE_INCOMPLETE;
        size_t next = (size_t)(newline - bytes) + 1;
        if (next > ENVELOPE_MAX) {
            *why = "the envelope is too long";
            return ENVELOPE_BAD;
        }
        if (rest >= sizeof prefix_size - 1 &&
            memcmp(bytes + at, prefix_size, sizeof prefix_size - 1) == 0) {
            *end = next;
            return ENVELOPE_OK;
        }
        at = next;
    }
}

enum envelope_status envelope_parse(struct envelope *envelope, const char *bytes, size_t length,
                                    size_t *consumed, const char **why)
{
    size_t end = 0;
    enum envelope_status status = find_end(bytes, length, &end, why);
    if (status != ENVELOPE_OK)
        return status;

    *envelope = (struct envelope){.storage = malloc(end)};
    /* NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): lines end in it */
    envelope->recipients = calloc(count_lines(bytes, end), sizeof *envelope->recipients);
    if (envelope->storage == NULL || envelope->recipients == NULL) {
        envelope_free(envelope);
        return ENVELOPE_NO_MEMORY;
    }
    memcpy(envelope->storage, bytes, end);
    struct lines lines = {.at = envelope->storage, .end = envelope->storage + end};
    *why = parse_lines(&lines, envelope);
    if (*why != NULL) {
        envelope_free(envelope);
        return ENVELOPE_BAD;
    }
    *consumed = end;
    return ENVELOPE_OK;
}

void envelope_free(struct envelope *envelope)
{
    free(envelope->storage);
    free(envelope->recipients);
    *envelope = (struct envelope){0};
}

void envelope_format_time(char text[static ENVELOPE_TIME_SIZE], int64_t microseconds)
{
    time_t seconds = (time_t)(microseconds / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(text, ENVELOPE_TIME_SIZE, "%Y-%m-%dT%H:%M:%S.", &utc);
    snprintf(text + length, ENVELOPE_TIME_SIZE - length, "%06uZ",
             (unsigned)(microseconds % 1000000) % 1000000);
}

/* `count` digits at `text`, or -1. */
static int parse_digits(const char *text, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

bool envelope_parse_time(const char *text, int64_t *microseconds)
{
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    for (size_t i = 0; i < sizeof pattern; i++) {
        if (pattern[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != pattern[i])
            return false;
    }
    struct tm utc = {
        .tm_year = parse_digits(text, 4) - 1900,
        .tm_mon = parse_digits(text + 5, 2) - 1,
        .tm_mday = parse_digits(text + 8, 2),
        .tm_hour = parse_digits(text + 11, 2),
        .tm_min = parse_digits(text + 14, 2),
        .tm_sec = parse_digits(text + 17, 2),
    };
    struct tm normal = utc;
    time_t seconds = timegm(&normal);
    /* timegm turns 31 April into 1 May: a date is one only if it comes back as it was. */
    if (seconds < 0 || normal.tm_year != utc.tm_year || normal.tm_mon != utc.tm_mon ||
        normal.tm_mday != utc.tm_mday || normal.tm_hour != utc.tm_hour ||
        normal.tm_min != utc.tm_min || normal.tm_sec != utc.tm_sec)
        return false;
    *microseconds = (int64_t)seconds * 1000000 + parse_digits(text + 20, 6);
    return true;
}
