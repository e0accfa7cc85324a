/* What is wrong with the files of a spool: one directory after the other, in the file system's
 * order, in memory that does not depend on how many there are. */
#ifndef QUEUE_TOOL_INSPECT_H
#define QUEUE_TOOL_INSPECT_H

#include "queue/id.h"
#include "queue/tool/place.h"

#include <stdint.h>
#include <sys/types.h>

enum {
    INSPECT_TMP_SECONDS =
        36 * 3600,                /* what is older in tmp/ was left by a crash; as reaper has it */
    INSPECT_ALONE_SECONDS = 3600, /* a reason, for which the message never came; as relay has it */
    INSPECT_BOTH_SECONDS = 5,     /* in new/ and cur/ of relay: a flush does not take as long */
    INSPECT_SUSPECTS = 256
};

struct inspection {
    const struct tool *tool;
    gid_t group;   /* of the spool */
    uint64_t left; /* findings that are not repaired */
    /* Ids that relay has in new/ and in cur/, perhaps only for now. */
    char suspects[INSPECT_SUSPECTS][ID_SIZE];
    size_t suspects_count;
};

/* Returns 0, or an errno value when the directory cannot be read. */
int inspect_directory(struct inspection *inspection, struct place place);

/* Looks at the suspects once more, which takes INSPECT_BOTH_SECONDS if there are any. */
void inspect_end(struct inspection *inspection);

#endif
