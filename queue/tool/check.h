/* `queue check`. */
#ifndef QUEUE_TOOL_CHECK_H
#define QUEUE_TOOL_CHECK_H

#include "queue/tool/tool.h"

/* Opens the spool itself, for what is missing of it is among what it finds. Returns an exit code:
 * EX_DATAERR when something that was found is still as it was. */
int check_run(struct tool *tool);

#endif
