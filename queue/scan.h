/* Looks through a directory of a queue, a name at a time, in the file system's order, in memory
 * that does not depend on how many there are. Names may come and go meanwhile: one that is there
 * throughout is returned once. Blocks. */
#ifndef QUEUE_SCAN_H
#define QUEUE_SCAN_H

#include "queue/spool.h"

#include <dirent.h>

struct scan {
    DIR *stream;
};

/* Begins a scan. Returns 0 or an errno value. */
int scan_open(struct scan *scan, const struct spool *spool, enum queue queue,
              enum queue_directory directory);

/* The next name: 1 with `*name`, valid until the next call; 0 at the end; -1 with errno. Names that
 * begin with a dot are passed over, as in Maildir. */
int scan_next(struct scan *scan, const char **name);

/* Ends a scan. Harmless twice. */
void scan_close(struct scan *scan);

#endif
