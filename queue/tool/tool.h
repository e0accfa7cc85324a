/* What the commands of the queue tool share: the spool that they look into, how they speak, and
 * their exit codes, which are those of sysexits.h:
 *
 *     0                done
 *     64 EX_USAGE      what was asked for cannot be; also: nobody there to be asked, and no --yes
 *     65 EX_DATAERR    `check` found something that is still there; a file that is no message
 *     66 EX_NOINPUT    no such message
 *     69 EX_UNAVAILABLE  the database does not answer
 *     71 EX_OSERR      the system refused something
 *     74 EX_IOERR      what was printed did not arrive
 *     75 EX_TEMPFAIL   not now: the message is in another state than that asks for
 *     77 EX_NOPERM     not permitted, or the answer was no
 *     78 EX_CONFIG     wrong settings, or no spool where they say
 *
 * The running programs go on meanwhile: a file may be gone, or elsewhere, at any moment between two
 * steps. That is never an error by itself. Single thread; blocks. */
#ifndef QUEUE_TOOL_TOOL_H
#define QUEUE_TOOL_TOOL_H

#include "queue/spool.h"
#include "queue/tool/options.h"

#include <jansson.h>
#include <stdint.h>

struct tool {
    struct spool spool;       /* open, but for `check`, which opens it itself */
    const char *spool_path;   /* SPOOL */
    const char *database_url; /* DATABASE_URL; NULL when unset */
    struct options options;
    int64_t now; /* microseconds since the epoch, when it began */
};

/* Says on stderr, in a line, what is wrong with something; either may have any bytes in it. */
void tool_complain(const char *about, const char *what);

/* The same for an errno value, and the exit code that it means. */
int tool_fail(const char *about, int error);

/* The exit code of a command that met several: the first that is not 0. */
int tool_worse(int code, int other);

/* Prints an object in a line of its own, in ASCII, and lets go of it. NULL, as jansson returns when
 * memory is out, is remembered: tool_finish returns EX_OSERR then. */
void tool_print_json(json_t *object);

/* A JSON string of any bytes (plain_utf8); NULL when memory is out. */
json_t *tool_json_text(const char *text);

/* Sets a member, or with no key appends to an array, and remembers as above. Takes `value`. */
void tool_json_set(json_t *object, const char *key, json_t *value);

/* Sees that all that was printed has arrived. Returns `code`, or what is worse. */
int tool_finish(int code);

#endif
