/* Asking the database where a message is, with the rights of a reader: emails and retention() are
 * all that is needed. Blocks, but not for ever. */
#ifndef QUEUE_TOOL_DATABASE_H
#define QUEUE_TOOL_DATABASE_H

#include <stdbool.h>

enum database_status {
    DATABASE_HAS,     /* stored, and not expired */
    DATABASE_HAS_NOT, /* not there, or not any more */
    DATABASE_UNASKED, /* no setting says where one is */
    DATABASE_DOWN     /* it does not answer, or not to that: `why` */
};

struct database_answer {
    enum database_status status;
    char **recipients; /* HAS: `count` of them, each allocated */
    int count;
    bool expired; /* HAS_NOT: an id of that time has outlived the retention */
    char why[256];
};

/* Looks for a valid id. `url` is a libpq connection string; NULL: libpq's PG* variables, if one
 * says where. */
void database_ask(struct database_answer *answer, const char *url, const char *id);
void database_answer_free(struct database_answer *answer);

#endif
