/* Counting a queue: see the header. */
#include "queue/census.h"

#include "common/log.h"
#include "queue/id.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Names of one step: some milliseconds. And of the time that a look takes, what is rested after it: a
 * queue of a million costs five hundredths of a processor. */
enum { CENSUS_STEP = 16 * 1024, CENSUS_REST = 20 };

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool ends_with(const char *name, size_t length, const char *suffix)
{
    size_t tail = strlen(suffix);

    return length > tail && strcmp(name + length - tail, suffix) == 0;
}

/* In the pool. */

/* A name in failed/ may be an id with a number behind it (queue/retire.c), or any. */
static void count(struct census_count *found, const char *name)
{
    size_t length = strlen(name);
    char id[ID_SIZE] = "";

    if (ends_with(name, length, ".reason") || ends_with(name, length, ".notification"))
        return;
    found->messages++;
    if (length >= ID_LENGTH)
        memcpy(id, name, ID_LENGTH);
    if (id_valid(id) && id_time(id) < found->oldest)
        found->oldest = id_time(id);
}

static int open_directory(struct census *census)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/%s", census->spool, queue_names[census->queue],
                          queue_directory_names[census->directory]);

    if (length >= (int)sizeof path)
        return ENAMETOOLONG;
    census->scan.stream = opendir(path);
    return census->scan.stream != NULL ? 0 : errno;
}

static void work_cb(uv_work_t *work)
{
    struct census *census = work->data;
    const char *name;
    int more = 1;

    if (census->scan.stream == NULL)
        census->error = open_directory(census);
    for (int i = 0; i < CENSUS_STEP && more > 0 && census->error == 0; i++) {
        more = scan_next(&census->scan, &name);
        if (more > 0)
            count(&census->found[census->directory], name);
        else if (more < 0)
            census->error = errno;
    }
    if (more <= 0)
        scan_close(&census->scan);
}

/* On the loop. */

static void go_on(struct census *census);

static void end(struct census *census)
{
    uint64_t now = uv_now(census->loop);

    census->rests_until = now + CENSUS_REST * (now - census->began);
    if (census->error != 0 && !census->complained)
        log_warn("queue_not_counted", LOG_TEXT("queue", queue_names[census->queue]),
                 LOG_TEXT("directory", queue_directory_names[census->directory]),
                 LOG_ERRNO(census->error));
    census->complained = census->error != 0;
    if (census->error != 0)
        return;
    memcpy(census->counts, census->found, sizeof census->counts);
    census->taken = wall_clock();
}

static void after_work_cb(uv_work_t *work, int status)
{
    struct census *census = work->data;

    (void)status; /* never cancelled */
    census->busy = false;
    if (census->stopping) {
        scan_close(&census->scan);
        return;
    }
    if (census->scan.stream == NULL && census->error == 0)
        census->directory++;
    if (census->error != 0 || census->directory == QUEUE_DIRECTORY_COUNT)
        end(census);
    else
        go_on(census);
}

static void go_on(struct census *census)
{
    census->busy = true;
    uv_queue_work(census->loop, &census->work, work_cb, after_work_cb);
}

void census_init(struct census *census, uv_loop_t *loop, const char *spool, enum queue queue)
{
    *census = (struct census){.loop = loop, .spool = spool, .queue = queue};
    census->work.data = census;
}

void census_begin(struct census *census)
{
    uint64_t now = uv_now(census->loop);

    if (census->busy || census->stopping || now < census->rests_until)
        return;
    for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
        census->found[i] = (struct census_count){.oldest = INT64_MAX};
    census->error = 0;
    census->began = now;
    census->directory = QUEUE_NEW; /* what is in tmp/ is no message yet */
    go_on(census);
}

void census_stop(struct census *census)
{
    census->stopping = true;
}

double census_age(const struct census *census, enum queue_directory directory)
{
    int64_t oldest = census->counts[directory].oldest;

    if (census->counts[directory].messages == 0 || oldest >= census->taken)
        return 0;
    return (double)(census->taken - oldest) / 1e6;
}
