/* cur/ of the queue store/: messages that are stored and stay for STORER_KEEP seconds, for a replay.
 */
#ifndef STORER_KEPT_H
#define STORER_KEPT_H

#include "queue/scanner.h"

struct kept {
    long seconds; /* STORER_KEEP */
    bool refused; /* the last that was to go back could not: said once, until one can */
};

/* The judge of the scanner of cur/ (queue/scanner.h), whose data is a struct kept. Taken are messages
 * that have been there for so long; what is no message goes back to new/, and so does everything
 * when nothing is to be kept. Blocks; for the pool. */
bool kept_judge_cb(struct scanner *scanner, const char *name);

#endif
