/* The steps by which a message's outcomes become durable, many messages at once. Blocks. */
#ifndef RELAY_STEPS_H
#define RELAY_STEPS_H

#include "queue/spool.h"
#include "relay/failure.h"
#include "relay/mail.h"
#include "relay/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message on its way through the steps. */
struct work {
    struct mail *mail; /* with its outcomes, and `due` */
    int64_t now;
    bool accepted, failed, rest;                    /* someone was, someone is left */
    bool begun;                                     /* an earlier run came as far as failed/NAME */
    char name[FAILURE_NAME_SIZE];                   /* NAME, where someone failed */
    bool dirty[QUEUE_COUNT][QUEUE_DIRECTORY_COUNT]; /* to be synced before the next step */
};

/* Takes all steps for each message whose `error` is 0. Afterwards that is 0, and all is durable; or
 * an errno value, of the step at which it was left. */
void steps_take(const struct recorder *recorder, struct work *works, size_t count);

#endif
