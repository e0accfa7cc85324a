/* Removes from the spool what nobody will look at again: files in tmp/ that a crash left, and files
 * in failed/, each with its reason, that have outlived the retention. Never looks into new/ or
 * cur/, and removes nothing but regular files. Age is the time since the last change of the
 * contents.
 *
 * Blocks; any thread; memory does not depend on how many files there are. */
#ifndef REAPER_SWEEP_H
#define REAPER_SWEEP_H

#include "queue/spool.h"

#include <stdatomic.h>
#include <stdint.h>

/* smtpd gives no message longer than an hour, so after a day and a half nobody writes to a file in
 * tmp/ any more: the time that Maildir readers have always waited. */
enum { SWEEP_TMP_SECONDS = 36 * 3600 };

struct sweep {
    const char *spool; /* path; a directory that is not there is no error */
    int64_t now;       /* seconds since the epoch */
    int64_t retention; /* seconds */
    /* Set from any thread: it ends soon, and what is left waits for another time. */
    const atomic_bool *stop;

    /* What was done. */
    uint64_t removed[QUEUE_COUNT][QUEUE_DIRECTORY_COUNT];
};

/* Sweeps, and logs `event=forgotten` for each message of failed/, `event=swept` for each directory
 * in which something was removed, and `event=not_swept` for each in which something could not be. */
void sweep_run(struct sweep *sweep);

#endif
