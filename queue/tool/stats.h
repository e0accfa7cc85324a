/* `queue stats`. */
#ifndef QUEUE_TOOL_STATS_H
#define QUEUE_TOOL_STATS_H

#include "queue/tool/tool.h"

/* Returns an exit code. */
int stats_run(const struct tool *tool);

#endif
