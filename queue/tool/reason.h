/* The reason beside a message: NAME.reason in failed/, and in relay's cur/. */
#ifndef QUEUE_TOOL_REASON_H
#define QUEUE_TOOL_REASON_H

#include "common/buffer.h"
#include "queue/tool/place.h"

enum { REASON_BYTES_MAX = 64 * 1024 };

/* Reads the reason of `name` into an empty buffer, as much of it as that takes, without the line
 * end at its end. Returns 0, also when there is none and the buffer stays empty, or an errno value.
 */
int reason_load(const struct tool *tool, struct place place, const char *name, struct buffer *text);

/* The reason that is there now, so that this one can be removed later and no other: the programs
 * may have put a new one in its place by then. Returns a descriptor for reason_drop; -1 with ENOENT
 * when there is none, or with another errno value. */
int reason_mark(const struct tool *tool, struct place place, const char *name);

/* Removes the reason if it is the one that was marked, and closes the mark (-1 is allowed). Returns
 * 0 or an errno value. */
int reason_drop(const struct tool *tool, struct place place, const char *name, int mark);

#endif
