/* Messages on their way to the disk: see the header. */
#include "smtpd/message.h"

#include "common/log.h"
#include "smtpd/counters.h"
#include "smtpd/trace.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct message {
    struct committer *committer;
    const struct message_callbacks *callbacks;
    void *owner; /* NULL once nobody wants to hear of it */

    struct writer writer;
    bool stored;           /* false: nobody's mail is kept, the content is dropped */
    struct buffer content; /* trace fields and content, not yet with the writer */
    struct buffer piece;   /* what the pool is writing */
    uv_work_t work;
    bool working; /* the pool has the writer and the piece */
    bool finished;
    bool aborted;
    int error; /* of ours, before the writer's: ENOMEM */
    struct committer_entry entry;

    uint64_t size; /* octets of content */
    size_t recipients;
    size_t refused; /* recipients, too */
    struct address client;
    char id[ID_SIZE];
    char *sender;
    char *helo;
};

static void message_free(struct message *message)
{
    struct committer *committer = message->committer;

    assert(!message->working);
    buffer_free(&message->content);
    buffer_free(&message->piece);
    free(message->sender);
    free(message->helo);
    free(message);
    committer->messages--;
    committer->released_cb(committer);
}

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Envelope and trace fields, made of the same facts. */
static int write_head(struct message *message, const struct transaction *transaction,
                      const struct message_origin *origin, int64_t received)
{
    char text[ADDRESS_TEXT_SIZE], literal[ADDRESS_LITERAL_SIZE];
    const struct recipients *recipients = &transaction->recipients;
    struct envelope envelope = {
        .id = message->id,
        .received = received,
        .client_address = text,
        .client_port = origin->client.port,
        .helo = origin->helo,
        .protocol = origin->protocol,
        .from = transaction->sender,
        .recipients = (const char **)recipients->mailboxes,
        .recipients_count = recipients->count,
    };
    struct trace trace = {
        .sender = transaction->sender,
        .helo = origin->helo,
        .literal = literal,
        .hostname = origin->hostname,
        .protocol = origin->protocol,
        .id = message->id,
        .recipient = recipients->count == 1 ? recipients->mailboxes[0] : NULL,
        .received = received,
    };

    address_text(&origin->client, text);
    address_literal(&origin->client, literal);
    trace_format(&trace, &message->content);
    if (message->content.failed)
        return ENOMEM;
    return writer_begin(&message->writer, message->committer->spool, QUEUE_STORE, &envelope);
}

struct message *message_open(struct committer *committer, struct transaction *transaction,
                             const struct message_origin *origin,
                             const struct message_callbacks *callbacks, void *owner)
{
    struct message *message = calloc(1, sizeof *message);
    int64_t received = wall_clock();

    if (message == NULL)
        return NULL;
    *message = (struct message){
        .committer = committer,
        .callbacks = callbacks,
        .owner = owner,
        .stored = transaction->recipients.count > 0,
        .recipients = transaction->recipients.count,
        .refused = transaction->refused,
        .client = origin->client,
        .sender = strdup(transaction->sender),
        .helo = strdup(origin->helo),
    };
    message->work.data = message;
    buffer_init(&message->content, MESSAGE_HELD_MAX + 1);
    buffer_init(&message->piece, MESSAGE_HELD_MAX + 1);
    id_make(message->id, received);
    committer->messages++;
    if (message->sender == NULL || message->helo == NULL ||
        (message->stored && write_head(message, transaction, origin, received) != 0)) {
        log_error("message_not_begun", LOG_TEXT("id", message->id));
        message_free(message);
        return NULL;
    }
    memcpy(transaction->id, message->id, ID_SIZE);
    return message;
}

/* Runs `run_cb` with the writer on the pool. */
static void begin_work(struct message *message, uv_work_cb run_cb, uv_after_work_cb ran_cb)
{
    message->working = true;
    uv_queue_work(message->committer->loop, &message->work, run_cb, ran_cb);
}

/* Undoing: what is on the disk is unlinked by the pool, for that may wait for the disk as well. */

static void undo_cb(uv_work_t *work)
{
    struct message *message = work->data;

    writer_abort(&message->writer);
}

static void undone_cb(uv_work_t *work, int status)
{
    struct message *message = work->data;

    (void)status;
    message->working = false;
    message_free(message);
}

static void undo(struct message *message)
{
    if (message->stored && message->writer.descriptor >= 0) {
        begin_work(message, undo_cb, undone_cb);
        return;
    }
    if (message->stored)
        writer_abort(&message->writer);
    message_free(message);
}

/* Ending: the committer has had it. */

static void log_end(const struct message *message, int error)
{
    char client[ADDRESS_TEXT_SIZE];

    address_text(&message->client, client);
    if (error != 0) {
        log_error("not_written", LOG_TEXT("id", message->id), LOG_TEXT("client", client),
                  LOG_ERRNO(error));
        return;
    }
    log_info(message->stored ? "accepted" : "discarded", LOG_TEXT("id", message->id),
             LOG_TEXT("client", client), LOG_TEXT("helo", message->helo),
             LOG_TEXT("from", message->sender), LOG_NUMBER("rcpt", message->recipients),
             LOG_NUMBER("refused", message->refused), LOG_NUMBER("size", message->size));
}

static void end(struct message *message, int error)
{
    log_end(message, error);
    if (error == 0 && message->stored) {
        counters_add(COUNTER_MESSAGES, 1);
        counters_add(COUNTER_BYTES, (double)message->size);
    } else if (error == 0) {
        counters_add(COUNTER_DISCARDED, 1);
    }
    if (message->owner != NULL)
        message->callbacks->ended_cb(message->owner, error);
    message_free(message);
}

static void done_cb(struct committer_entry *entry)
{
    struct message *message =
        (struct message *)(void *)((char *)entry - offsetof(struct message, entry));

    end(message, message->stored ? message->writer.error : 0);
}

static void failed_cb(uv_work_t *work, int status)
{
    struct message *message = work->data;

    (void)status;
    message->working = false;
    end(message, message->error);
}

static void commit(struct message *message)
{
    if (message->stored && message->error != 0) {
        begin_work(message, undo_cb, failed_cb);
        return;
    }
    message->entry = (struct committer_entry){
        .writer = message->stored ? &message->writer : NULL,
        .bytes = message->content.data,
        .length = message->content.length,
        .done_cb = done_cb,
    };
    committer_add(message->committer, &message->entry);
}

/* Pieces. */

/* Octets that this message may hold. */
static size_t share_of(const struct message *message)
{
    size_t share = MESSAGES_HELD_MAX / message->committer->messages;

    if (share > MESSAGE_HELD_MAX)
        return MESSAGE_HELD_MAX;
    return share < MESSAGE_HELD_MIN ? MESSAGE_HELD_MIN : share;
}

static void write_piece_cb(uv_work_t *work)
{
    struct message *message = work->data;

    writer_append(&message->writer, message->piece.data, message->piece.length);
}

static void begin_piece(struct message *message);

static void wrote_piece_cb(uv_work_t *work, int status)
{
    struct message *message = work->data;

    (void)status;
    message->working = false;
    if (share_of(message) < MESSAGE_HELD_MAX) {
        buffer_free(&message->piece);
        buffer_init(&message->piece, MESSAGE_HELD_MAX + 1);
    }
    if (message->aborted) {
        undo(message);
    } else if (message->finished) {
        commit(message);
    } else if (message->writer.error != 0) {
        log_end(message, message->writer.error);
        message->callbacks->failed_cb(message->owner, message->writer.error);
    } else {
        if (message->content.length >= share_of(message))
            begin_piece(message);
        message->callbacks->room_cb(message->owner);
    }
}

/* The full buffer goes to the pool, the one that comes back is filled next. */
static void begin_piece(struct message *message)
{
    struct buffer full = message->content;

    message->content = message->piece;
    message->piece = full;
    buffer_clear(&message->content);
    begin_work(message, write_piece_cb, wrote_piece_cb);
}

/* What is held may be more than the share, when that has become smaller meanwhile. Then there is
 * room only for what begins the next piece. */
size_t message_room(const struct message *message)
{
    size_t held = message->content.length, share = share_of(message);

    if (!message->stored || message->error != 0)
        return SIZE_MAX;
    if (held < share)
        return share - held;
    if (message->working || held >= MESSAGE_HELD_MAX)
        return 0;
    return MESSAGE_HELD_MAX - held < MESSAGE_HELD_MIN ? MESSAGE_HELD_MAX - held : MESSAGE_HELD_MIN;
}

void message_append(struct message *message, struct slice content)
{
    message->size += content.length;
    if (!message->stored || message->error != 0)
        return;
    if (!buffer_append(&message->content, content.start, content.length))
        message->error = ENOMEM;
    else if (message->content.length >= share_of(message) && !message->working)
        begin_piece(message);
}

void message_finish(struct message *message)
{
    message->finished = true;
    if (!message->working)
        commit(message);
}

void message_abort(struct message *message)
{
    message->owner = NULL;
    if (message->finished)
        return;
    message->aborted = true;
    if (!message->working)
        undo(message);
}
