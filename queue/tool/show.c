/* One message, wherever it is: see the header. */
#include "queue/tool/show.h"

#include "common/log.h"
#include "queue/tool/figures.h"
#include "queue/tool/plain.h"
#include "queue/tool/reason.h"
#include "queue/tool/summary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { SHOW_PIECE = 64 * 1024 };

static void print_line(const char *label, const char *text)
{
    printf("%-10s ", label);
    plain_field(stdout, text, 0);
    putchar('\n');
}

static void print_time(const char *label, const struct tool *tool, int64_t time)
{
    char text[ENVELOPE_TIME_SIZE], age[FIGURE_SIZE];

    envelope_format_time(text, time);
    figure_age(age, time > tool->now ? time - tool->now : tool->now - time);
    printf("%-10s %s (%s%s%s)\n", label, text, time > tool->now ? "in " : "", age,
           time > tool->now ? "" : " ago");
}

/* A line of a reason is one recipient's. */
static void print_reason(const struct tool *tool, const struct summary *summary)
{
    struct buffer text;
    int error;

    buffer_init(&text, REASON_BYTES_MAX + 1);
    error = reason_load(tool, summary->place, summary->name, &text);
    if (error != 0)
        print_line("Reason:", log_errno_text(error));
    else if (text.length > 0 && buffer_append(&text, "", 1)) {
        char *rest = text.data;
        for (char *line; (line = strsep(&rest, "\n")) != NULL;)
            print_line("Reason:", line);
    }
    buffer_free(&text);
}

static void print_envelope(const struct tool *tool, const struct summary *summary)
{
    const struct envelope *envelope = &summary->reader.envelope;
    char address[ENVELOPE_LINE_MAX + 16];

    print_line("Id:", envelope->id);
    print_time("Received:", tool, envelope->received);
    snprintf(address, sizeof address, "%s %u", envelope->client_address, envelope->client_port);
    print_line("Client:", address);
    print_line("Helo:", envelope->helo);
    print_line("Protocol:", envelope->protocol);
    snprintf(address, sizeof address, "<%s>", envelope->from);
    print_line("From:", address);
    for (size_t i = 0; i < envelope->recipients_count; i++) {
        snprintf(address, sizeof address, "<%s>", envelope->recipients[i]);
        print_line("To:", address);
    }
    printf("%-10s %" PRIu64 "\n", "Size:", summary->size);
}

static void print_head(const struct tool *tool, const struct summary *summary)
{
    char file[PLACE_SIZE];

    place_format(file, summary->place, summary->name);
    print_line("File:", file);
    print_line("State:", place_state(summary->place));
    if (summary->problem != NULL)
        print_line("Problem:", summary->problem);
    else if (summary->place.queue == QUEUE_RELAY && summary->place.directory == QUEUE_CUR)
        print_time("Next try:", tool, summary->reader.modified);
    print_reason(tool, summary);
    if (summary->problem == NULL)
        print_envelope(tool, summary);
}

/* Writes a piece; returns how many bytes of it are to come again before the next. */
static size_t put(const struct tool *tool, const char *piece, size_t length, bool last)
{
    if (tool->options.raw) {
        (void)fwrite(piece, 1, length, stdout); /* ferror knows at the end */
        return 0;
    }
    return length - plain_write(stdout, piece, length, PLAIN_TEXT, last);
}

/* What is left of the file from `offset` on, or all of one that is no message. */
static int print_from(const struct tool *tool, int file, uint64_t offset)
{
    static char piece[SHOW_PIECE];
    size_t kept = 0;

    for (;;) {
        ssize_t n = pread(file, piece + kept, sizeof piece - kept, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        offset += (uint64_t)n;
        size_t length = kept + (size_t)n;
        kept = put(tool, piece, length, n == 0);
        memmove(piece, piece + length - kept, kept);
        if (n == 0 || ferror(stdout))
            return 0;
    }
}

/* A file that is no message is looked at all the same: that is what it was set aside for. */
static int print_file(const struct tool *tool, const struct summary *summary)
{
    struct stat status;
    int file, error;

    if (summary->problem == NULL)
        return print_from(tool, summary->reader.descriptor, summary->reader.start);
    file = openat(tool->spool.directories[summary->place.queue][summary->place.directory],
                  summary->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0)
        return errno;
    error = fstat(file, &status) < 0 ? errno : S_ISREG(status.st_mode) ? 0 : EINVAL;
    if (error == 0)
        error = print_from(tool, file, 0);
    close(file);
    return error;
}

static int show(const struct tool *tool, const struct summary *summary)
{
    int error = 0;

    if (!tool->options.raw)
        print_head(tool, summary);
    if (tool->options.envelope)
        return EX_OK;
    if (!tool->options.raw)
        putchar('\n');
    error = print_file(tool, summary);
    return error != 0 ? tool_fail(summary->name, error) : EX_OK;
}

int show_run(const struct tool *tool)
{
    const char *name = tool->options.names[0];
    struct place places[PLACE_COUNT];
    size_t count = place_find(tool, name, places), shown = 0;
    struct summary summary;
    int code = EX_OK;

    for (size_t i = 0; i < count && !(tool->options.raw && shown > 0); i++) {
        if (!summary_open(&summary, tool, places[i], name))
            continue;
        if (shown++ > 0)
            putchar('\n');
        code = tool_worse(code, show(tool, &summary));
        summary_close(&summary);
    }
    if (shown > 0)
        return code;
    tool_complain(name, "no such message in the spool");
    return EX_NOINPUT;
}
