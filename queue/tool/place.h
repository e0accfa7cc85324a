/* Where in the spool a message can be, and what that is called. */
#ifndef QUEUE_TOOL_PLACE_H
#define QUEUE_TOOL_PLACE_H

#include "queue/tool/tool.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { PLACE_COUNT = QUEUE_COUNT * QUEUE_DIRECTORY_COUNT, PLACE_SIZE = 16 + NAME_MAX };

struct place {
    enum queue queue;
    enum queue_directory directory;
};

/* The word for what a message is there: `new`, `deferred`. */
const char *place_state(struct place place);

/* Writes `store/failed/NAME`, or without a name `store/failed`. */
void place_format(char text[static PLACE_SIZE], struct place place, const char *name);

/* Whether something of that name is there. */
bool place_has(const struct tool *tool, struct place place, const char *name);

/* Finds where `name` is in the queues of tool->options: an id everywhere but tmp/, another name in
 * failed/ alone. The places are in the order in which they count: what is still to be done first.
 * Returns how many. */
size_t place_find(const struct tool *tool, const char *name,
                  struct place places[static PLACE_COUNT]);

/* Whether a name in failed/, or in relay's cur/, is that of what stands beside a message: its
 * reason, or a notification that is not sent yet. `*message` is the length of the message's name.
 */
bool place_is_reason(const char *name, size_t *message);
bool place_is_notification(const char *name, size_t *message);

#endif
