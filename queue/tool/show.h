/* `queue show`. */
#ifndef QUEUE_TOOL_SHOW_H
#define QUEUE_TOOL_SHOW_H

#include "queue/tool/tool.h"

/* Returns an exit code. */
int show_run(const struct tool *tool);

#endif
