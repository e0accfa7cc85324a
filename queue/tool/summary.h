/* What is told of a message in one look at its file: from list, failed, show and remove. */
#ifndef QUEUE_TOOL_SUMMARY_H
#define QUEUE_TOOL_SUMMARY_H

#include "queue/reader.h"
#include "queue/tool/place.h"

struct summary {
    struct place place;
    const char *name;
    struct reader reader; /* open, unless there is a problem */
    const char *problem;  /* why it cannot be read as a message; NULL: it can */
    int64_t received;     /* of its envelope; else of its name, or its file; microseconds */
    uint64_t size;        /* of the message; of the file where there is a problem */
};

/* Looks at a file; `name` stays the caller's. False when it is gone. The reader is at the start of
 * the message. */
bool summary_open(struct summary *summary, const struct tool *tool, struct place place,
                  const char *name);
void summary_close(struct summary *summary);

/* The head of the table, and a line of it. */
void summary_print_head(void);
void summary_print(const struct summary *summary, const struct tool *tool);

/* The same as an object; NULL when memory is out. */
json_t *summary_json(const struct summary *summary, const struct tool *tool);

#endif
