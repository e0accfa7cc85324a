/* One message, told briefly: see the header. */
#include "queue/tool/summary.h"

#include "common/log.h"
#include "queue/id.h"
#include "queue/tool/figures.h"
#include "queue/tool/plain.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* What has no envelope has a file still, and mostly an id for a name. */
static bool take_from_file(struct summary *summary, const struct tool *tool)
{
    struct stat file;
    char id[ID_SIZE];

    if (fstatat(tool->spool.directories[summary->place.queue][summary->place.directory],
                summary->name, &file, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    summary->size = (uint64_t)file.st_size;
    snprintf(id, sizeof id, "%s", summary->name);
    summary->received = id_valid(id)
                            ? id_time(id)
                            : (int64_t)file.st_mtim.tv_sec * 1000000 + file.st_mtim.tv_nsec / 1000;
    return true;
}

bool summary_open(struct summary *summary, const struct tool *tool, struct place place,
                  const char *name)
{
    /* In failed/ a message may have a number behind its id, or any name. */
    const char *id = id_valid(name) ? name : NULL;

    *summary = (struct summary){.place = place, .name = name, .reader.descriptor = -1};
    switch (
        reader_open_named(&summary->reader, &tool->spool, place.queue, place.directory, name, id)) {
    case READER_OK:
        summary->received = summary->reader.envelope.received;
        summary->size = summary->reader.envelope.size;
        return true;
    case READER_GONE:
        return false;
    case READER_BAD:
        summary->problem = summary->reader.why;
        break;
    case READER_ERROR:
        summary->problem = log_errno_text(summary->reader.error);
        break;
    }
    return take_from_file(summary, tool);
}

void summary_close(struct summary *summary)
{
    reader_close(&summary->reader);
}

void summary_print_head(void)
{
    printf("%-36s  %-5s  %-8s  %6s  %5s  %-26s  %s\n", "ID", "QUEUE", "STATE", "AGE", "SIZE",
           "FROM", "TO");
}

static void print_address(const char *address, size_t width)
{
    char brackets[ENVELOPE_LINE_MAX + 3];

    snprintf(brackets, sizeof brackets, "<%s>", address);
    plain_field(stdout, brackets, width);
}

void summary_print(const struct summary *summary, const struct tool *tool)
{
    const struct envelope *envelope = &summary->reader.envelope;
    char age[FIGURE_SIZE], size[FIGURE_SIZE];

    figure_age(age, tool->now - summary->received);
    figure_bytes(size, summary->size);
    plain_field(stdout, summary->name, 36);
    printf("  %-5s  %-8s  %6s  %5s  ", queue_names[summary->place.queue],
           place_state(summary->place), age, size);
    if (summary->problem != NULL) {
        printf("%s\n", summary->problem);
        return;
    }
    print_address(envelope->from, 26);
    printf("  ");
    print_address(envelope->recipients[0], 0);
    if (envelope->recipients_count > 1)
        printf(" +%zu", envelope->recipients_count - 1);
    putchar('\n');
}

static json_t *recipients_json(const struct envelope *envelope)
{
    json_t *list = json_array();

    for (size_t i = 0; i < envelope->recipients_count; i++)
        tool_json_set(list, NULL, tool_json_text(envelope->recipients[i]));
    return list;
}

static json_t *time_json(int64_t microseconds)
{
    char text[ENVELOPE_TIME_SIZE];

    envelope_format_time(text, microseconds);
    return json_string(text);
}

json_t *summary_json(const struct summary *summary, const struct tool *tool)
{
    const struct envelope *envelope = &summary->reader.envelope;
    json_t *object = json_pack(
        "{s:o, s:s, s:s, s:o, s:I, s:I}", "name", tool_json_text(summary->name), "queue",
        queue_names[summary->place.queue], "state", place_state(summary->place), "received",
        time_json(summary->received), "age",
        (json_int_t)((tool->now - summary->received) / 1000000), "size", (json_int_t)summary->size);

    if (object == NULL)
        return NULL;
    if (summary->problem != NULL) {
        tool_json_set(object, "problem", tool_json_text(summary->problem));
        return object;
    }
    tool_json_set(object, "id", tool_json_text(envelope->id));
    tool_json_set(object, "from", tool_json_text(envelope->from));
    tool_json_set(object, "to", recipients_json(envelope));
    if (summary->place.queue == QUEUE_RELAY && summary->place.directory == QUEUE_CUR)
        tool_json_set(object, "next", time_json(summary->reader.modified));
    return object;
}
