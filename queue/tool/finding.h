/* Something in the spool that does not belong there: said in a line, and repaired where that was
 * asked for and is safe.
 *
 * A repair is what a running program would do itself, or less: it never deletes a message that is
 * whole, and is harmless beside the programs. */
#ifndef QUEUE_TOOL_FINDING_H
#define QUEUE_TOOL_FINDING_H

#include "queue/tool/place.h"

#include <stdbool.h>
#include <sys/types.h>

enum repair {
    REPAIR_NONE,      /* people decide */
    REPAIR_MAKE,      /* make the directory that is missing */
    REPAIR_DIRECTORY, /* give a directory the spool's group and mode 2770 */
    REPAIR_FILE,      /* give a whole message, or its reason, the spool's group and mode 0640 */
    REPAIR_LEFTOVER,  /* remove a file in tmp/ that is no whole message */
    REPAIR_SET_ASIDE, /* move to failed/, with what is wrong as the reason */
    REPAIR_REASON     /* remove a reason that has had no message for an hour */
};

struct finding {
    const char *path;    /* under SPOOL, as it is said */
    struct place place;  /* where it is; not of MAKE */
    const char *name;    /* there; NULL: the directory itself */
    int descriptor;      /* DIRECTORY: of it; the file's for FILE */
    const char *problem; /* what is wrong, in words that begin small */
    enum repair repair;  /* what would help */
    gid_t group;         /* the spool's */
};

/* Says it, and repairs it if the options say so. True when nothing of it is left. */
bool finding_report(const struct tool *tool, const struct finding *finding);

#endif
