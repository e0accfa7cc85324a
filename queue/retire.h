/* The ways in which a message leaves where it was: removed when done, kept in cur/, returned to
 * new/, or set aside in failed/. Each is one step that either happened or did not; a file that is
 * no longer there is no error, for then somebody has done it before. Blocks; any thread. */
#ifndef QUEUE_RETIRE_H
#define QUEUE_RETIRE_H

#include "queue/spool.h"

/* Removes a file whose message is safe elsewhere. Returns 0 or an errno value. */
int retire_remove(const struct spool *spool, enum queue queue, enum queue_directory directory,
                  const char *name);

/* Moves new/NAME to cur/NAME, and cur/NAME to new/NAME. Returns 0 or an errno value. */
int retire_keep(const struct spool *spool, enum queue queue, const char *name);
int retire_return(const struct spool *spool, enum queue queue, const char *name);

/* Moves a file to failed/ under its name, with `reason` (a line of text; control characters are
 * written as spaces) in NAME.reason beside it. Never replaces another message there: a name that is
 * taken gets a number behind it, one that is too long an id in its place. Logs
 * `event=set_aside id=NAME reason=...`. Returns 0 or an errno value. */
int retire_set_aside(const struct spool *spool, enum queue queue, enum queue_directory directory,
                     const char *name, const char *reason);

#endif
