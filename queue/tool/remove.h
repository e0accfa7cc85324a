/* `queue remove`. */
#ifndef QUEUE_TOOL_REMOVE_H
#define QUEUE_TOOL_REMOVE_H

#include "queue/tool/tool.h"

/* Returns an exit code. */
int remove_run(const struct tool *tool);

#endif
