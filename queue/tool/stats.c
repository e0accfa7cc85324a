/* How many, how large, how old, and for whom: see the header.
 *
 * One look at each directory in the file system's order, and at each file. Of what waits to be
 * stored or sent, new ones and deferred ones, the envelope is read as well, for the table of
 * domains. */
#include "queue/tool/stats.h"

#include "queue/id.h"
#include "queue/scan.h"
#include "queue/tool/figures.h"
#include "queue/tool/plain.h"
#include "queue/tool/shape.h"
#include "queue/tool/summary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

/* Domains that the table names; --json has all that are known. */
enum { STATS_DOMAINS = 20 };

struct count {
    uint64_t messages, bytes;
    int64_t oldest; /* when it was received; INT64_MAX where there is none */
};

struct stats {
    const struct tool *tool;
    struct count counts[QUEUE_COUNT][QUEUE_DIRECTORY_COUNT];
    struct shape shape;
};

static bool is_waiting(struct place place)
{
    return place.directory == QUEUE_NEW ||
           (place.queue == QUEUE_RELAY && place.directory == QUEUE_CUR);
}

static void shape_message(struct stats *stats, struct place place, const char *name)
{
    struct summary summary;

    if (!summary_open(&summary, stats->tool, place, name))
        return;
    const struct envelope *envelope = &summary.reader.envelope;
    for (size_t i = 0; summary.problem == NULL && i < envelope->recipients_count; i++)
        shape_add(&stats->shape, envelope->recipients[i], stats->tool->now - envelope->received);
    summary_close(&summary);
}

/* The age is that of the id, so that nothing is read for it; else that of the file. */
static int64_t received(const char *name, const struct stat *file)
{
    char id[ID_SIZE];

    snprintf(id, sizeof id, "%s", name);
    return id_valid(id) ? id_time(id) : (int64_t)file->st_mtim.tv_sec * 1000000;
}

static void count_file(struct stats *stats, struct place place, const char *name)
{
    struct count *count = &stats->counts[place.queue][place.directory];
    struct stat file;
    size_t message;

    if (place_is_reason(name, &message) || place_is_notification(name, &message) ||
        fstatat(stats->tool->spool.directories[place.queue][place.directory], name, &file,
                AT_SYMLINK_NOFOLLOW) < 0)
        return;
    count->messages++;
    count->bytes += (uint64_t)file.st_size;
    if (received(name, &file) < count->oldest)
        count->oldest = received(name, &file);
    if (is_waiting(place))
        shape_message(stats, place, name);
}

static int count_directory(struct stats *stats, struct place place)
{
    struct scan scan;
    const char *name;
    int more, error = scan_open(&scan, &stats->tool->spool, place.queue, place.directory);

    stats->counts[place.queue][place.directory].oldest = INT64_MAX;
    if (error != 0)
        return tool_fail(queue_directory_names[place.directory], error);
    while ((more = scan_next(&scan, &name)) > 0)
        count_file(stats, place, name);
    error = more < 0 ? errno : 0;
    scan_close(&scan);
    return error != 0 ? tool_fail(queue_directory_names[place.directory], error) : EX_OK;
}

static int count_all(struct stats *stats)
{
    int code = EX_OK;

    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++) {
            if ((stats->tool->options.queues & 1U << queue) != 0)
                code = tool_worse(code,
                                  count_directory(stats, (struct place){(enum queue)queue,
                                                                        (enum queue_directory)i}));
        }
    }
    return code;
}

static void print_counts(const struct stats *stats)
{
    printf("%-5s  %-9s  %9s  %14s  %6s\n", "QUEUE", "STATE", "MESSAGES", "BYTES", "OLDEST");
    for (int i = 0; i < PLACE_COUNT; i++) {
        struct place place = {(enum queue)(i / QUEUE_DIRECTORY_COUNT),
                              (enum queue_directory)(i % QUEUE_DIRECTORY_COUNT)};
        const struct count *count = &stats->counts[place.queue][place.directory];
        char age[FIGURE_SIZE] = "-";
        if ((stats->tool->options.queues & 1U << place.queue) == 0)
            continue;
        if (count->messages > 0)
            figure_age(age, stats->tool->now - count->oldest);
        printf("%-5s  %-9s  %9" PRIu64 "  %14" PRIu64 "  %6s\n", queue_names[place.queue],
               place_state(place), count->messages, count->bytes, age);
    }
}

static void print_row(const char *label, const struct shape_row *row)
{
    plain_field(stdout, label, 30);
    printf(" %7" PRIu64, row->total);
    for (int i = 0; i < SHAPE_AGES; i++)
        printf(" %6" PRIu64, row->ages[i]);
    putchar('\n');
}

/* What is not named: rows beyond those that are, and what found no row. */
static struct shape_row sum_others(const struct shape *shape)
{
    struct shape_row others = shape->others;

    for (size_t i = STATS_DOMAINS; i < shape->count; i++)
        shape_sum(&others, &shape->rows[i]);
    return others;
}

static void print_shape(const struct shape *shape)
{
    struct shape_row others = sum_others(shape);

    printf("\n%-30s %7s", "RECIPIENTS WAITING, MINUTES:", "TOTAL");
    for (int i = 0; i < SHAPE_AGES - 1; i++) {
        char label[16];
        snprintf(label, sizeof label, "<%d", shape_minutes[i]);
        printf(" %6s", label);
    }
    printf("  older\n");
    print_row("all", &shape->total);
    for (size_t i = 0; i < shape->count && i < STATS_DOMAINS; i++)
        print_row(shape->rows[i].domain[0] != '\0' ? shape->rows[i].domain : "(no domain)",
                  &shape->rows[i]);
    if (others.total > 0)
        print_row("(others)", &others);
}

static json_t *row_json(const struct shape_row *row)
{
    json_t *ages = json_array();

    for (int i = 0; i < SHAPE_AGES; i++)
        tool_json_set(ages, NULL, json_integer((json_int_t)row->ages[i]));
    return json_pack("{s:I, s:o}", "total", (json_int_t)row->total, "ages", ages);
}

static json_t *count_json(const struct stats *stats, const struct count *count)
{
    json_t *object = json_pack("{s:I, s:I}", "messages", (json_int_t)count->messages, "bytes",
                               (json_int_t)count->bytes);

    if (count->messages > 0)
        tool_json_set(object, "oldest",
                      json_integer((json_int_t)((stats->tool->now - count->oldest) / 1000000)));
    return object;
}

static void print_json(const struct stats *stats)
{
    const struct shape *shape = &stats->shape;
    json_t *all = json_object(), *domains = json_object(), *minutes = json_array();

    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        json_t *states = json_object();
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
            tool_json_set(states,
                          place_state((struct place){(enum queue)queue, (enum queue_directory)i}),
                          count_json(stats, &stats->counts[queue][i]));
        if ((stats->tool->options.queues & 1U << queue) != 0)
            tool_json_set(all, queue_names[queue], states);
        else
            json_decref(states);
    }
    for (int i = 0; i < SHAPE_AGES - 1; i++)
        tool_json_set(minutes, NULL, json_integer(shape_minutes[i]));
    for (size_t i = 0; i < shape->count; i++) {
        char *domain = plain_utf8(shape->rows[i].domain);
        tool_json_set(domains, domain, domain != NULL ? row_json(&shape->rows[i]) : NULL);
        free(domain);
    }
    tool_json_set(all, "waiting",
                  json_pack("{s:o, s:o, s:o, s:o}", "minutes", minutes, "all",
                            row_json(&shape->total), "domains", domains, "others",
                            row_json(&shape->others)));
    tool_print_json(all);
}

int stats_run(const struct tool *tool)
{
    struct stats stats = {.tool = tool};
    int code;

    if (!shape_open(&stats.shape, SHAPE_DOMAINS))
        return tool_fail("stats", ENOMEM);
    code = count_all(&stats);
    shape_sort(&stats.shape);
    if (tool->options.json) {
        print_json(&stats);
    } else {
        print_counts(&stats);
        print_shape(&stats.shape);
    }
    shape_close(&stats.shape);
    return code;
}
