/* The messages of some directories by name, the oldest first, in memory that is bounded however
 * many there are: at most ROSTER_MAX names, packed into 19 bytes each, are held at once (20 MB),
 * those that are the oldest of what was not handed out yet; when they are used up, the directories
 * are looked through once more for the next. So a million files are one look.
 *
 * Ids, and ids with a number behind them as failed/ has (`ID.1`), are in the order of their time.
 * What has another name comes last, in the file system's order. Reasons, and notifications that are
 * not sent yet, are no messages and are left out. No name comes twice from one directory, so what
 * is moved to and fro meanwhile keeps nobody for ever. */
#ifndef QUEUE_TOOL_ROSTER_H
#define QUEUE_TOOL_ROSTER_H

#include "queue/scan.h"
#include "queue/tool/place.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { ROSTER_MAX = 1 << 20, ROSTER_KEY_SIZE = 19 };

/* The id's 16 bytes, the number's 2, the place: in the order of memcmp. */
struct roster_key {
    unsigned char bytes[ROSTER_KEY_SIZE];
};

struct roster {
    const struct spool *spool;
    unsigned places; /* a bit 1 << (queue * QUEUE_DIRECTORY_COUNT + directory) each */
    size_t maximum;  /* keys that are held at once: ROSTER_MAX; tests have fewer */

    struct roster_key *keys; /* of a look: first a heap, the youngest on top; then sorted */
    size_t count, capacity, next;
    struct roster_key last; /* handed out */
    bool begun, more;       /* last is set; some were left for another look */
    int place;              /* whose strangers are looked through, once ids are done */
    struct scan scan;
    bool ids_done, scanning;
    int error; /* errno value of what ended it, or of what kept a directory from being read */
};

/* The bit of a place. */
unsigned roster_bit(enum queue queue, enum queue_directory directory);

/* Prepares; no system call. `places` of the queues in `queues`. */
void roster_begin(struct roster *roster, const struct tool *tool, unsigned places);

/* The next one: true with its place and name. False at the end, or with `error` set. */
bool roster_next(struct roster *roster, struct place *place, char name[static NAME_MAX + 1]);

void roster_end(struct roster *roster);

/* The key of a name in a place, and back. False: it is a stranger. Pure. */
bool roster_pack(struct roster_key *key, int place, const char *name);
int roster_unpack(const struct roster_key *key, char name[static NAME_MAX + 1]);

#endif
