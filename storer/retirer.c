/* The end of a message's way through the queue: see the header. */
#include "storer/retirer.h"

#include "common/log.h"
#include "queue/retire.h"

/* For the words of the log only: a message is in the database long before its file is gone. */
static void say_done(const struct batch *batch, const struct message *message)
{
    char received[ENVELOPE_TIME_SIZE];
    if (message->directory == QUEUE_CUR) {
        log_debug("replayed", LOG_TEXT("id", message->id), LOG_NUMBER("batch", batch->number));
    } else if (message->fate == FATE_STORED) {
        log_info("stored", LOG_TEXT("id", message->id), LOG_NUMBER("batch", batch->number));
    } else {
        envelope_format_time(received, message->received);
        log_warn("expired", LOG_TEXT("id", message->id), LOG_TEXT("received", received));
    }
}

static int retire(const struct spool *spool, const struct message *message, bool keep)
{
    if (message->fate == FATE_REFUSED)
        return retire_set_aside(spool, QUEUE_STORE, message->directory, message->id,
                                message->reason ? message->reason : "refused");
    if (keep && message->fate == FATE_STORED && message->directory == QUEUE_NEW)
        return retire_keep(spool, QUEUE_STORE, message->id);
    return retire_remove(spool, QUEUE_STORE, message->directory, message->id);
}

void retirer_run(const struct spool *spool, const struct batch *batch, bool keep)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct message *message = &batch->messages[i];
        if (message->fate == FATE_OPEN)
            continue;
        if (message->fate != FATE_REFUSED)
            say_done(batch, message);
        int error = retire(spool, message, keep);
        if (error && message->fate != FATE_REFUSED)
            log_error("not_removed", LOG_TEXT("id", message->id), LOG_ERRNO(error));
    }
}
