/* Group commit on the loop: see the header. */
#include "smtpd/committer.h"

#include "common/fault.h"
#include "common/log.h"
#include "smtpd/counters.h"

#include <assert.h>
#include <string.h>

static void run_cb(uv_work_t *work)
{
    struct committer *committer = work->data;
    struct writer *writers[COMMIT_GROUP_MAX];
    size_t count = 0;

    for (struct committer_entry *entry = committer->group; entry != NULL; entry = entry->next) {
        for (size_t i = 0; i < entry->count; i++) {
            writer_finish(&entry->writers[i], entry->bytes, entry->length);
            writers[count++] = &entry->writers[i];
        }
    }
    commit_run(&committer->commit, writers, count);
}

static void begin_group(struct committer *committer);

static void ran_cb(uv_work_t *work, int status)
{
    struct committer *committer = work->data;
    struct committer_entry *entry = committer->group;

    assert(status == 0); /* nobody cancels it */
    counters_observe(COUNTER_COMMIT_SECONDS, (double)(uv_hrtime() - committer->began) / 1e9);
    FAULT_POINT("committer.committed");
    committer->group = NULL;
    begin_group(committer); /* the disk need not wait until the clients have been told */
    while (entry != NULL) {
        struct committer_entry *next = entry->next;
        entry->done_cb(entry);
        entry = next;
    }
}

/* Takes what waits, up to the most that a group may hold, and gives it to the pool. */
static void begin_group(struct committer *committer)
{
    struct committer_entry **end = &committer->first;
    size_t count = 0, files = 0;

    if (committer->group != NULL || committer->first == NULL)
        return;
    /* cppcheck-suppress knownConditionTrueFalse ; it moves on with `end` */
    while (*end != NULL && count < COMMIT_GROUP_MAX && files + (*end)->count <= COMMIT_GROUP_MAX) {
        files += (*end)->count;
        end = &(*end)->next;
        count++;
    }
    committer->group = committer->first;
    committer->first = *end;
    *end = NULL;
    if (committer->first == NULL)
        committer->last = &committer->first;
    FAULT_POINT("committer.begin");
    committer->began = uv_hrtime();
    counters_observe(COUNTER_COMMIT_GROUP, (double)count);
    uv_queue_work(committer->loop, &committer->work, run_cb, ran_cb);
}

static void check_cb(uv_check_t *check)
{
    struct committer *committer = check->data;

    uv_check_stop(&committer->check);
    uv_idle_stop(&committer->idle);
    begin_group(committer);
}

static void idle_cb(uv_idle_t *idle)
{
    (void)idle;
}

/* A group is begun behind the input of this turn, not with the first message of it: those that
 * ended at the same moment would else wait for a whole commit of one. */
void committer_add(struct committer *committer, struct committer_entry *entry)
{
    entry->next = NULL;
    *committer->last = entry;
    committer->last = &entry->next;
    if (committer->group == NULL) {
        uv_check_start(&committer->check, check_cb);
        uv_idle_start(&committer->idle, idle_cb);
    }
}

static void log_methods(const struct commit *commit)
{
    const char *store = commit_method_name(commit->queues[QUEUE_STORE].method);
    const char *relay = commit_method_name(commit->queues[QUEUE_RELAY].method);

    if (strcmp(store, relay) == 0)
        log_info("committing", LOG_TEXT("method", store));
    else
        log_info("committing", LOG_TEXT("store", store), LOG_TEXT("relay", relay));
}

int committer_start(struct committer *committer, uv_loop_t *loop, const struct spool *spool)
{
    int error;

    *committer = (struct committer){.loop = loop, .spool = spool};
    error = commit_open(&committer->commit, spool);
    if (error != 0)
        return error;
    committer->last = &committer->first;
    committer->work.data = committer;
    uv_check_init(loop, &committer->check);
    uv_idle_init(loop, &committer->idle);
    committer->check.data = committer;
    log_methods(&committer->commit);
    return 0;
}

void committer_stop(struct committer *committer)
{
    uv_close((uv_handle_t *)&committer->check, NULL);
    uv_close((uv_handle_t *)&committer->idle, NULL);
    commit_close(&committer->commit);
}
