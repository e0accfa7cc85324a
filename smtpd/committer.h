/* Commits messages in groups: what ends while a commit runs is committed next, together. A lone
 * message waits for nobody, and under load a group grows by itself to what the disk needs, without
 * a timer and without a setting.
 *
 * One group at a time is with the thread pool, where its messages are written out whole and
 * committed (queue/commit.h). Loop thread only. */
#ifndef SMTPD_COMMITTER_H
#define SMTPD_COMMITTER_H

#include "queue/commit.h"
#include "queue/spool.h"
#include "queue/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* One message to be committed, in a file for each of its queues. Lives inside its owner, and belongs to the committer from
 * committer_add until done_cb. */
struct committer_entry {
    struct writer *writers; /* twins where there are two */
    size_t count;           /* 0: nothing is to be written, only its turn is waited for */
    const char *bytes;      /* the last piece of the message */
    size_t length;
    void (*done_cb)(struct committer_entry *entry); /* the writers' error says how it went */
    struct committer_entry *next;
};

struct committer {
    uv_loop_t *loop;
    const struct spool *spool;
    struct commit commit;
    struct committer_entry *first; /* waiting, in order */
    struct committer_entry **last;
    struct committer_entry *group; /* with the pool, or NULL */
    uv_work_t work;
    uint64_t began;   /* the group was, in nanoseconds of uv_hrtime */
    uv_check_t check; /* runs behind all the input of a turn of the loop */
    uv_idle_t idle;   /* keeps that turn from waiting for more */
    size_t messages;  /* open messages, counted by smtpd/message.c */
    void (*released_cb)(struct committer *committer); /* one of them has ended */
};

/* Returns 0 or an errno value. */
int committer_start(struct committer *committer, uv_loop_t *loop, const struct spool *spool);

/* Closes its handles; nothing is waiting or with the pool. */
void committer_stop(struct committer *committer);

void committer_add(struct committer *committer, struct committer_entry *entry);

#endif
