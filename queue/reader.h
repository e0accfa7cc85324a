/* Reads one message of a queue: opens the file, checks that it is one and whole, hands out the
 * envelope and then the message. Blocks; a reader is used by one thread at a time. */
#ifndef QUEUE_READER_H
#define QUEUE_READER_H

#include "common/buffer.h"
#include "queue/envelope.h"
#include "queue/spool.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum reader_status {
    READER_OK,
    READER_GONE, /* no such file: somebody else has dealt with it */
    READER_BAD,  /* torn, forged or foreign: `why` says so; to be set aside */
    READER_ERROR /* `error` is an errno value: the system's fault, to be tried again */
};

struct reader {
    struct envelope envelope;
    int64_t modified; /* the file's mtime, microseconds since the epoch */
    const char *why;  /* BAD: a static sentence */
    int error;        /* ERROR */

    int descriptor;
    struct buffer head; /* the first bytes of the file */
    uint64_t start;     /* offset of the message in the file */
    uint64_t position;  /* of the next byte to hand out, from `start` */
};

/* Opens `name` in a directory of a queue. Only OK leaves something to reader_close. A file is BAD
 * when its name is no id, it is not a regular file, its envelope does not parse or names another
 * id, or its length is not what the envelope says. */
enum reader_status reader_open(struct reader *reader, const struct spool *spool, enum queue queue,
                               enum queue_directory directory, const char *name);

/* The same for a file that goes by another name, as in failed/: it must be of the message `id`, or
 * of any where that is NULL. */
enum reader_status reader_open_named(struct reader *reader, const struct spool *spool,
                                     enum queue queue, enum queue_directory directory,
                                     const char *name, const char *id);

/* Reads the next `length` bytes of the message into `bytes`. Returns 0; or an errno value: EIO also
 * when the file ends early, which no other program does to a file in new/. */
int reader_read(struct reader *reader, void *bytes, size_t length);

/* Frees everything, the envelope too. Harmless on a zeroed reader whose descriptor is -1. */
void reader_close(struct reader *reader);

#endif
