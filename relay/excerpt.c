/* Files with some of the recipients: see the header. */
#include "relay/excerpt.h"

#include "common/fault.h"
#include "queue/retire.h"
#include "queue/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The envelope of `mail` with some of its recipients, who are to be freed; their address is
 * `recipients`. False when memory is out. */
static bool choose(struct envelope *envelope, const struct mail *mail, unsigned outcomes)
{
    *envelope = mail->reader.envelope;
    envelope->storage = NULL;
    envelope->recipients = calloc(mail->count, sizeof *envelope->recipients);
    envelope->recipients_count = 0;
    if (envelope->recipients == NULL)
        return false;
    for (size_t i = 0; i < mail->count; i++) {
        if ((outcomes & 1U << mail->recipients[i].outcome) != 0)
            envelope->recipients[envelope->recipients_count++] = mail->recipients[i].address;
    }
    return true;
}

static int read_piece(const struct mail *mail, uint64_t position, char *piece, size_t length)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n =
            FAULT_CALL("excerpt.read", pread(mail->reader.descriptor, piece + done,
                                             FAULT_LENGTH("excerpt.read", length - done),
                                             (off_t)(mail->reader.start + position + done)));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        done += (size_t)n;
    }
    return 0;
}

/* The writer reports its own errors; what could not be read it does not know of. */
static int copy_content(struct writer *writer, const struct mail *mail, char *piece)
{
    uint64_t size = mail->reader.envelope.size, position = 0;

    for (;;) {
        size_t length = size - position < MAIL_PIECE ? (size_t)(size - position) : MAIL_PIECE;
        int error = read_piece(mail, position, piece, length);
        if (error != 0) {
            writer_abort(writer);
            return error;
        }
        position += length;
        if (position == size)
            return writer_finish(writer, piece, length);
        error = writer_append(writer, piece, length);
        if (error != 0)
            return error;
    }
}

int excerpt_write(const struct spool *spool, const struct mail *mail, unsigned outcomes,
                  enum queue_directory directory, const char *name, int64_t modified, char *piece)
{
    struct envelope envelope;
    struct writer writer;
    int error;

    if (!choose(&envelope, mail, outcomes))
        return ENOMEM;
    /* What a crash left: no id is given out twice, and we hold the queue's lock. */
    error = retire_remove(spool, QUEUE_RELAY, QUEUE_TMP, mail->id);
    if (error == 0)
        error = writer_begin(&writer, spool, QUEUE_RELAY, &envelope);
    if (error == 0)
        error = copy_content(&writer, mail, piece);
    if (error == 0)
        error = writer_place(&writer, directory, name, modified);
    free(envelope.recipients);
    return error;
}

bool excerpt_match(const struct envelope *envelope, struct mail *mail)
{
    size_t matched = 0;

    for (size_t i = 0; i < mail->count && matched < envelope->recipients_count; i++) {
        if (mail->recipients[i].outcome != OUTCOME_ACCEPTED &&
            strcmp(mail->recipients[i].address, envelope->recipients[matched]) == 0)
            matched++;
    }
    if (matched < envelope->recipients_count)
        return false;
    matched = 0;
    for (size_t i = 0; i < mail->count; i++) {
        struct recipient *recipient = &mail->recipients[i];
        if (recipient->outcome == OUTCOME_ACCEPTED)
            continue;
        if (matched < envelope->recipients_count &&
            strcmp(recipient->address, envelope->recipients[matched]) == 0) {
            recipient->outcome = OUTCOME_FAILED;
            matched++;
        } else if (recipient->outcome == OUTCOME_FAILED) {
            recipient->outcome = OUTCOME_OPEN;
        }
    }
    return true;
}
