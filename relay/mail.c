/* Messages taken in hand: see the header. */
#include "relay/mail.h"

#include "common/fault.h"
#include "common/log.h"
#include "queue/path.h"
#include "queue/retire.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum mail_status say_unreadable(const char *id, enum queue_directory directory, int error)
{
    log_error("unreadable", LOG_TEXT("id", id),
              LOG_TEXT("directory", queue_directory_names[directory]), LOG_ERRNO(error));
    return MAIL_UNREADABLE;
}

static enum mail_status set_aside(const struct spool *spool, enum queue_directory directory,
                                  const char *id, const char *why)
{
    /* What could not be set aside, which is logged, is looked at again. */
    return retire_set_aside(spool, QUEUE_RELAY, directory, id, why) == 0 ? MAIL_SET_ASIDE
                                                                         : MAIL_UNREADABLE;
}

/* Opens a file; when it is none to be read, what becomes of it. */
static enum mail_status open_file(struct reader *reader, const struct spool *spool,
                                  enum queue_directory directory, const char *id)
{
    switch (reader_open(reader, spool, QUEUE_RELAY, directory, id)) {
    case READER_OK:
        return MAIL_LOADED;
    case READER_GONE:
        return MAIL_GONE;
    case READER_BAD:
        return set_aside(spool, directory, id, reader->why);
    case READER_ERROR:
        break;
    }
    return say_unreadable(id, directory, reader->error);
}

static bool is_there(const struct spool *spool, enum queue_directory directory, const char *id)
{
    return faccessat(spool->directories[QUEUE_RELAY][directory], id, F_OK, AT_SYMLINK_NOFOLLOW) ==
               0 ||
           errno != ENOENT;
}

/* Removes new/ID, which has recipients that were accepted, before cur/ID goes on. First cur/ has to
 * keep its name for sure: a relay that was killed may have left it in the cache. And once that is
 * done with and gone, nothing would say any more that new/ID is not to be sent: the two removals
 * are in different directories, and a file system may keep the second alone. */
static int remove_superseded(const struct spool *spool, const char *id)
{
    const int *directories = spool->directories[QUEUE_RELAY];
    int error;

    if (!is_there(spool, QUEUE_NEW, id))
        return 0;
    if (FAULT_CALL("superseded.keep", fsync(directories[QUEUE_CUR])) < 0)
        return errno;
    error = retire_remove(spool, QUEUE_RELAY, QUEUE_NEW, id);
    if (error == 0 && FAULT_CALL("superseded.end", fsync(directories[QUEUE_NEW])) < 0)
        error = errno;
    return error;
}

/* Opens the file that counts. A cur/ID that is no message does not count. */
static enum mail_status open_counting(struct reader *reader, const struct spool *spool,
                                      enum queue_directory directory, const char *id)
{
    enum mail_status status;
    int error;

    if (directory == QUEUE_CUR || is_there(spool, QUEUE_CUR, id)) {
        status = open_file(reader, spool, QUEUE_CUR, id);
        if (status == MAIL_LOADED) {
            error = remove_superseded(spool, id);
            if (error == 0 && directory == QUEUE_CUR)
                return MAIL_LOADED;
            reader_close(reader);
            return error == 0 ? MAIL_SUPERSEDED : say_unreadable(id, QUEUE_NEW, error);
        }
        if (directory == QUEUE_CUR || status == MAIL_UNREADABLE)
            return status;
    }
    return open_file(reader, spool, QUEUE_NEW, id);
}

/* A path as the envelope has it, without its brackets, and nothing but the path. */
static bool is_path(const char *address, bool is_sender, bool *non_ascii)
{
    char brackets[ENVELOPE_LINE_MAX + 3];
    size_t length = strnlen(address, ENVELOPE_LINE_MAX);
    struct path path;
    struct slice whole, rest;

    brackets[0] = '<';
    memcpy(brackets + 1, address, length);
    brackets[length + 1] = '>';
    whole = slice_make(brackets, length + 2);
    if (is_sender ? !path_parse_reverse(whole, &path, &rest)
                  : !path_parse_forward(whole, &path, &rest))
        return false;
    *non_ascii = path.non_ascii;
    /* A source route is in the path, and not in the mailbox. */
    return rest.length == 0 && path.mailbox.length == length;
}

/* False when an address is none. */
static bool take_addresses(struct mail *mail)
{
    const struct envelope *envelope = &mail->reader.envelope;

    if (!is_path(envelope->from, true, &mail->sender_non_ascii))
        return false;
    for (size_t i = 0; i < mail->count; i++) {
        mail->recipients[i].address = envelope->recipients[i];
        if (!is_path(envelope->recipients[i], false, &mail->recipients[i].non_ascii))
            return false;
    }
    return true;
}

static size_t piece_size(const struct mail *mail)
{
    uint64_t size = mail->reader.envelope.size;

    return size < MAIL_PIECE ? (size_t)size : MAIL_PIECE;
}

int mail_read(struct mail *mail)
{
    uint64_t rest = mail->reader.envelope.size - mail->reader.position;

    mail->piece_length = rest < MAIL_PIECE ? (size_t)rest : MAIL_PIECE;
    mail->error = reader_read(&mail->reader, mail->piece, mail->piece_length);
    if (mail->error != 0)
        mail->piece_length = 0;
    return mail->error;
}

int mail_rewind(struct mail *mail)
{
    mail->reader.position = 0;
    return mail_read(mail);
}

/* Reads all of it, and the first piece once more where that was not all. */
static int read_for_survey(struct mail *mail)
{
    uint64_t size = mail->reader.envelope.size;
    int error;

    survey_init(&mail->survey);
    do {
        error = mail_read(mail);
        survey_read(&mail->survey, mail->piece, mail->piece_length);
    } while (error == 0 && mail->reader.position < size);
    return error != 0 || size <= MAIL_PIECE ? error : mail_rewind(mail);
}

static enum mail_status mail_fill(struct mail *mail, const struct spool *spool)
{
    int error;

    mail->count = mail->reader.envelope.recipients_count;
    mail->recipients = calloc(mail->count, sizeof *mail->recipients);
    mail->piece = malloc(piece_size(mail) + 1);
    if (mail->recipients == NULL || mail->piece == NULL)
        return say_unreadable(mail->id, mail->directory, ENOMEM);
    if (!take_addresses(mail))
        return set_aside(spool, mail->directory, mail->id, "an address in the envelope is none");
    error = read_for_survey(mail);
    return error == 0 ? MAIL_LOADED : say_unreadable(mail->id, mail->directory, error);
}

enum mail_status mail_load(struct mail **mail, const struct spool *spool,
                           enum queue_directory directory, const char *id)
{
    struct mail *loaded = calloc(1, sizeof *loaded);
    enum mail_status status;

    assert(directory == QUEUE_NEW || directory == QUEUE_CUR);
    if (loaded == NULL)
        return say_unreadable(id, directory, ENOMEM);
    loaded->reader.descriptor = -1;
    loaded->found = loaded->directory = directory;
    status = open_counting(&loaded->reader, spool, directory, id);
    if (status == MAIL_LOADED) {
        memcpy(loaded->id, loaded->reader.envelope.id, ID_SIZE);
        status = mail_fill(loaded, spool);
    }
    if (status == MAIL_LOADED)
        *mail = loaded;
    else
        mail_free(loaded);
    return status;
}

void mail_free(struct mail *mail)
{
    if (mail == NULL)
        return;
    for (size_t i = 0; mail->recipients != NULL && i < mail->count; i++)
        free(mail->recipients[i].words);
    free(mail->recipients);
    free(mail->piece);
    reader_close(&mail->reader);
    free(mail);
}
