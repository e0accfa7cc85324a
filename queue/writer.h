/* Writes one message into tmp/, in as many pieces as it comes in. What is written becomes a
 * message of the queue by commit_run (queue/commit.h), or goes away by writer_abort.
 *
 * The envelope's head is made at the beginning, the size in it is filled in at the end, which its
 * fixed width allows. A message that is finished without any piece before is one write.
 *
 * A message for both queues has a writer for each (writer_pair), which get the same pieces.
 *
 * Only writer_append, writer_finish and writer_abort block; a writer, with its twin, is used by one
 * thread at a time. */
#ifndef QUEUE_WRITER_H
#define QUEUE_WRITER_H

#include "common/buffer.h"
#include "queue/envelope.h"
#include "queue/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
    const struct spool *spool;
    enum queue queue;
    char id[ID_SIZE];
    struct buffer head; /* the envelope, until it is written */
    size_t head_length;
    uint64_t size;  /* bytes of the message so far */
    int descriptor; /* of tmp/ID, -1 while there is none */
    bool pieces;    /* bytes were written before writer_finish */
    int error;      /* 0, or the errno value of the first failure: no call does anything after it */
    struct writer *twin; /* of the same message in another queue, or NULL */
};

/* Prepares a writer: no system call. Returns 0, EINVAL when the envelope cannot be written down
 * (envelope_encode), or ENOMEM; the same stands in writer->error. The envelope's size is ignored
 * and it is not referred to afterwards. */
int writer_begin(struct writer *writer, const struct spool *spool, enum queue queue,
                 const struct envelope *envelope);

/* Puts bytes of this file alone before what is written: they count as part of the message. No
 * system call. To be called before all that follow. Returns 0 or ENOMEM. */
int writer_prefix(struct writer *writer, const void *bytes, size_t length);

/* Makes two writers that were begun twins: they fail and are aborted together, for the same reason,
 * and commit_run, which is to get both in one group, accepts both or neither. */
void writer_pair(struct writer *writer, struct writer *twin);

/* Writes a piece of the message. Returns 0 or an errno value; after a failure nothing is left in
 * tmp/, so that a full disk is not kept full by what failed. */
int writer_append(struct writer *writer, const void *bytes, size_t length);

/* Writes the last piece (which may be empty) and the size. Returns as writer_append. The file is
 * complete then, but not durable. */
int writer_finish(struct writer *writer, const void *bytes, size_t length);

/* Puts a finished file under `name` into a directory of its queue other than by a commit, in place
 * of what may be there: makes its bytes durable, with an mtime of `modified` (microseconds since
 * the epoch; 0: as it is), and renames it. The name is durable once the directory is synced, which
 * is the caller's. Returns as writer_append; the writer is done with either way. */
int writer_place(struct writer *writer, enum queue_directory directory, const char *name,
                 int64_t modified);

/* Undoes all of it: nothing is left in tmp/. Harmless twice, after a failure, and after commit_run.
 */
void writer_abort(struct writer *writer);

#endif
