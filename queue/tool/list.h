/* `queue list` and `queue failed`. */
#ifndef QUEUE_TOOL_LIST_H
#define QUEUE_TOOL_LIST_H

#include "queue/tool/tool.h"

/* Both return an exit code. */
int list_run(const struct tool *tool);
int list_failed_run(const struct tool *tool);

#endif
