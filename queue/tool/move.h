/* `queue retry` and `queue replay`: messages back into new/, to be dealt with once more. */
#ifndef QUEUE_TOOL_MOVE_H
#define QUEUE_TOOL_MOVE_H

#include "queue/tool/tool.h"

/* Both return an exit code. */
int move_retry_run(const struct tool *tool);
int move_replay_run(const struct tool *tool);

#endif
