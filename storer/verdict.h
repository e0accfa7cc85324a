/* What an error of the database means for the batch that met it. Pure. */
#ifndef STORER_VERDICT_H
#define STORER_VERDICT_H

#include <stdbool.h>

enum verdict {
    VERDICT_WAIT,      /* nothing wrong with the batch: the same again after a pause */
    VERDICT_RECONNECT, /* the wrong server: find another */
    VERDICT_PARTITION, /* a day has no partition: have it made, then the same again */
    VERDICT_REFUSED,   /* a message in it cannot be stored: find it by halving, set it aside */
    VERDICT_TOO_MUCH,  /* beyond its means, or unforeseen: halve when it lasts, set nothing aside */
    VERDICT_SETUP,     /* the database is not set up for us: tell the operator, the same again */
    VERDICT_COUNT
};

/* `sqlstate` is five characters, or "" when the error has none. `constraint` tells whether it names
 * a constraint: a missing partition shares its SQLSTATE, 23514, with CHECK but has none to name. */
enum verdict verdict_of(const char *sqlstate, bool constraint);

/* For the log: `wait`, `reconnect`, ... */
extern const char *const verdict_names[VERDICT_COUNT];

#endif
