/* The command line of the queue tool. Pure. */
#ifndef QUEUE_TOOL_OPTIONS_H
#define QUEUE_TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum command {
    COMMAND_LIST,
    COMMAND_FAILED,
    COMMAND_SHOW,
    COMMAND_STATS,
    COMMAND_RETRY,
    COMMAND_REMOVE,
    COMMAND_REPLAY,
    COMMAND_CHECK,
    COMMAND_TRACE,
    COMMAND_COUNT
};

struct options {
    enum command command;
    unsigned queues; /* a bit 1 << enum queue for each that is meant */
    bool all, envelope, json, raw, repair, yes;
    const char **names; /* `names_count` of argv: ids, or plain names in failed/ */
    size_t names_count;
};

/* One line a command, for --help. */
extern const char options_help[];

/* Reads argv, which is reordered: names come first. Returns 0; or EX_USAGE with what is wrong in
 * `why`, free of control characters. */
int options_parse(struct options *options, int argc, char **argv, char why[static 400]);

/* Whether it may be the name of a message: not empty, no `/` in it, no dot in front, no longer than
 * a file name can be. Whatever passes stays in the directory that it is looked for in. */
bool options_name_valid(const char *name);

#endif
