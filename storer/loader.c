/* Reading messages into a batch: see the header. */
#include "storer/loader.h"

#include "common/log.h"
#include "queue/reader.h"
#include "queue/retire.h"

#include <errno.h>
#include <inttypes.h>

static void set_aside(struct load *load, const struct candidate *candidate, const char *why)
{
    if (retire_set_aside(load->spool, QUEUE_STORE, candidate->directory, candidate->id, why) == 0)
        load->failed++;
}

static void say_unreadable(const struct candidate *candidate, int error)
{
    log_error("unreadable", LOG_TEXT("id", candidate->id),
              LOG_TEXT("directory", queue_directory_names[candidate->directory]), LOG_ERRNO(error));
}

/* Reads the message of an open reader straight to where it is sent from. */
static void load_message(struct load *load, const struct candidate *candidate,
                         struct reader *reader)
{
    char *room = batch_add(load->batch, &reader->envelope, candidate->directory, reader->modified);
    int error = room ? reader_read(reader, room, (size_t)reader->envelope.size) : ENOMEM;
    if (room && error)
        batch_remove_last(load->batch);
    if (error)
        say_unreadable(candidate, error);
}

static bool fits(const struct load *load, const struct envelope *envelope)
{
    const struct batch *batch = load->batch;
    return batch->count == 0 || (batch->bytes < load->limits.bytes &&
                                 batch_cost(envelope) <= load->limits.bytes - batch->bytes);
}

/* False when the message must wait for the next batch. */
static bool load_candidate(struct load *load, const struct candidate *candidate)
{
    struct reader reader;
    switch (reader_open(&reader, load->spool, QUEUE_STORE, candidate->directory, candidate->id)) {
    case READER_OK:
        break;
    case READER_GONE:
        return true;
    case READER_BAD:
        set_aside(load, candidate, reader.why);
        return true;
    case READER_ERROR:
        say_unreadable(candidate, reader.error);
        return true;
    }
    bool fitting = true;
    if (reader.envelope.size > BATCH_MESSAGE_MAX)
        set_aside(load, candidate, "larger than 512 MiB, which PostgreSQL cannot be sent");
    else if (fits(load, &reader.envelope))
        load_message(load, candidate, &reader);
    else
        fitting = false;
    reader_close(&reader);
    return fitting;
}

void loader_run(struct load *load)
{
    load->used = load->failed = 0;
    load->before = load->batch->count;
    load->full = false;
    while (load->used < load->count && !load->full) {
        if (load->batch->count >= load->limits.messages ||
            !load_candidate(load, &load->candidates[load->used]))
            load->full = true;
        else
            load->used++;
    }
    if (load->batch->count >= load->limits.messages || load->batch->bytes >= load->limits.bytes)
        load->full = true;
}
