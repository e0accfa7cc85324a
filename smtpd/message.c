/* Messages on their way to the disk: see the header. */
#include "smtpd/message.h"

#include "common/fault.h"
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

    struct writer writers[QUEUE_COUNT]; /* twins where there are two */
    size_t writer_count;                /* 0: nobody's mail is kept, the content is dropped */
    struct buffer content;              /* trace field and content, not yet with the writers */
    struct buffer piece;                /* what the pool is writing */
    uv_work_t work;
    bool working; /* the pool has the writers and the piece */
    bool finished;
    bool aborted;
    int error; /* of ours, before the writers': ENOMEM */
    struct committer_entry entry;

    uint64_t size; /* octets of content */
    size_t recipients[QUEUE_COUNT];
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

/* Whether anything of it is on the disk. */
static bool holds_file(const struct message *message)
{
    for (size_t i = 0; i < message->writer_count; i++)
        if (message->writers[i].descriptor >= 0)
            return true;
    return false;
}

static void abort_files(struct message *message)
{
    if (message->writer_count > 0)
        writer_abort(&message->writers[0]); /* and its twin */
}

static int files_error(const struct message *message)
{
    return message->writer_count > 0 ? message->writers[0].error : 0;
}

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* RFC 5321, section 4.4: Return-Path belongs to final delivery, and a relay adds none. */
static int write_return_path(struct writer *writer, const char *sender)
{
    struct buffer field;
    int error;

    buffer_init(&field, MESSAGE_HELD_MAX);
    trace_format_return_path(sender, &field);
    error = field.failed ? ENOMEM : writer_prefix(writer, field.data, field.length);
    buffer_free(&field);
    return error;
}

/* Begins the file of one queue, with an envelope for its recipients only. */
static int begin_file(struct message *message, enum queue queue, struct envelope *envelope,
                      const struct recipients *recipients)
{
    struct writer *writer = &message->writers[message->writer_count];
    int error;

    envelope->recipients = (const char **)recipients->mailboxes;
    envelope->recipients_count = recipients->count;
    error = writer_begin(writer, message->committer->spool, queue, envelope);
    if (error != 0)
        return error;
    if (message->writer_count++ > 0)
        writer_pair(&message->writers[0], writer);
    return queue == QUEUE_STORE ? write_return_path(writer, envelope->from) : 0;
}

/* The only recipient, or NULL: several may not learn of each other, whatever their queues. */
static const char *only_recipient(const struct transaction *transaction)
{
    const struct recipients *store = &transaction->recipients[QUEUE_STORE];
    const struct recipients *relay = &transaction->recipients[QUEUE_RELAY];

    if (store->count + relay->count != 1)
        return NULL;
    return store->count == 1 ? store->mailboxes[0] : relay->mailboxes[0];
}

/* Envelopes and trace field, made of the same facts. */
static int write_head(struct message *message, const struct transaction *transaction,
                      const struct message_origin *origin, int64_t received)
{
    char text[ADDRESS_TEXT_SIZE], literal[ADDRESS_LITERAL_SIZE];
    struct envelope envelope = {
        .id = message->id,
        .received = received,
        .client_address = text,
        .client_port = origin->client.port,
        .helo = origin->helo,
        .protocol = origin->protocol,
        .from = transaction->sender,
    };
    struct trace trace = {
        .helo = origin->helo,
        .literal = literal,
        .hostname = origin->hostname,
        .protocol = origin->protocol,
        .id = message->id,
        .recipient = only_recipient(transaction),
        .received = received,
    };
    int error = 0;

    address_text(&origin->client, text);
    address_literal(&origin->client, literal);
    trace_format(&trace, &message->content);
    if (message->content.failed)
        return ENOMEM;
    for (int queue = 0; queue < QUEUE_COUNT && error == 0; queue++)
        if (transaction->recipients[queue].count > 0)
            error =
                begin_file(message, (enum queue)queue, &envelope, &transaction->recipients[queue]);
    if (error != 0)
        abort_files(message);
    return error;
}

static size_t recipients_of(const struct message *message)
{
    return message->recipients[QUEUE_STORE] + message->recipients[QUEUE_RELAY];
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
        .refused = transaction->refused,
        .client = origin->client,
        .sender = strdup(transaction->sender),
        .helo = strdup(origin->helo),
    };
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        message->recipients[queue] = transaction->recipients[queue].count;
    message->work.data = message;
    buffer_init(&message->content, MESSAGE_HELD_MAX + 1);
    buffer_init(&message->piece, MESSAGE_HELD_MAX + 1);
    id_make(message->id, received);
    committer->messages++;
    if (message->sender == NULL || message->helo == NULL ||
        (recipients_of(message) > 0 && write_head(message, transaction, origin, received) != 0)) {
        log_error("message_not_begun", LOG_TEXT("id", message->id));
        message_free(message);
        return NULL;
    }
    memcpy(transaction->id, message->id, ID_SIZE);
    return message;
}

/* Runs `run_cb` with the writers on the pool. */
static void begin_work(struct message *message, uv_work_cb run_cb, uv_after_work_cb ran_cb)
{
    message->working = true;
    uv_queue_work(message->committer->loop, &message->work, run_cb, ran_cb);
}

/* Undoing: what is on the disk is unlinked by the pool, for that may wait for the disk as well. */

static void undo_cb(uv_work_t *work)
{
    abort_files(work->data);
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
    if (holds_file(message)) {
        begin_work(message, undo_cb, undone_cb);
        return;
    }
    abort_files(message);
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
    log_info(message->writer_count > 0 ? "accepted" : "discarded", LOG_TEXT("id", message->id),
             LOG_TEXT("client", client), LOG_TEXT("helo", message->helo),
             LOG_TEXT("from", message->sender), LOG_NUMBER("rcpt", recipients_of(message)),
             LOG_NUMBER("relayed", message->recipients[QUEUE_RELAY]),
             LOG_NUMBER("refused", message->refused), LOG_NUMBER("size", message->size));
}

static void end(struct message *message, int error)
{
    log_end(message, error);
    if (error == 0 && message->writer_count > 0) {
        counters_add(COUNTER_MESSAGES, 1);
        counters_add(COUNTER_BYTES, (double)message->size);
        counters_add(COUNTER_STORED, (double)message->recipients[QUEUE_STORE]);
        counters_add(COUNTER_RELAYED, (double)message->recipients[QUEUE_RELAY]);
    } else if (error == 0) {
        counters_add(COUNTER_DISCARDED, 1);
    }
    FAULT_POINT("message.reply");
    if (message->owner != NULL)
        message->callbacks->ended_cb(message->owner, error);
    FAULT_POINT("message.replied");
    message_free(message);
}

static void done_cb(struct committer_entry *entry)
{
    struct message *message =
        (struct message *)(void *)((char *)entry - offsetof(struct message, entry));

    end(message, files_error(message));
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
    if (message->writer_count > 0 && message->error != 0) {
        begin_work(message, undo_cb, failed_cb);
        return;
    }
    message->entry = (struct committer_entry){
        .writers = message->writers,
        .count = message->writer_count,
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

    for (size_t i = 0; i < message->writer_count; i++)
        writer_append(&message->writers[i], message->piece.data, message->piece.length);
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
    } else if (files_error(message) != 0) {
        log_end(message, files_error(message));
        message->callbacks->failed_cb(message->owner, files_error(message));
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

    if (message->writer_count == 0 || message->error != 0)
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
    if (message->writer_count == 0 || message->error != 0)
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
