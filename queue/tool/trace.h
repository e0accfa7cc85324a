/* `queue trace`. */
#ifndef QUEUE_TOOL_TRACE_H
#define QUEUE_TOOL_TRACE_H

#include "queue/tool/tool.h"

/* Returns an exit code. */
int trace_run(const struct tool *tool);

#endif
