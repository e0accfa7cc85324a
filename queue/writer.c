/* Writing into tmp/: see the header. */
#include "queue/writer.h"

#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

int writer_begin(struct writer *writer, const struct spool *spool, enum queue queue,
                 const struct envelope *envelope)
{
    *writer = (struct writer){.spool = spool, .queue = queue, .descriptor = -1};
    memcpy(writer->id, envelope->id, ID_SIZE);
    buffer_init(&writer->head, ENVELOPE_MAX);
    if (!envelope_encode(envelope, &writer->head)) {
        writer->error = writer->head.failed ? ENOMEM : EINVAL;
        buffer_free(&writer->head);
    }
    writer->head_length = writer->head.length;
    return writer->error;
}

/* Where the digits of the size stand in the envelope: before its last CRLF. */
static size_t size_offset(const struct writer *writer)
{
    return writer->head_length - 2 - ENVELOPE_SIZE_DIGITS;
}

static int directory_of(const struct writer *writer)
{
    return writer->spool->directories[writer->queue][QUEUE_TMP];
}

/* Undoes one file, which has come to its end by that error. */
static void undo(struct writer *writer, int error)
{
    if (writer->descriptor < 0 && writer->head.data == NULL)
        return;
    if (writer->descriptor >= 0) {
        close(writer->descriptor);
        writer->descriptor = -1;
        if (FAULT_CALL("writer.unlink", unlinkat(directory_of(writer), writer->id, 0)) < 0 &&
            errno != ENOENT)
            log_error("tmp_left", LOG_TEXT("id", writer->id), LOG_ERRNO(errno));
    }
    buffer_free(&writer->head);
    if (writer->error == 0)
        writer->error = error;
}

static int writer_fail(struct writer *writer, int error)
{
    undo(writer, error);
    if (writer->twin != NULL)
        undo(writer->twin, error);
    return error;
}

void writer_abort(struct writer *writer)
{
    writer_fail(writer, ECANCELED);
}

int writer_prefix(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->error != 0)
        return writer->error;
    if (!buffer_append(&writer->head, bytes, length))
        return writer_fail(writer, ENOMEM);
    writer->size += length;
    return 0;
}

void writer_pair(struct writer *writer, struct writer *twin)
{
    writer->twin = twin;
    twin->twin = writer;
}

/* Writes all of both, whatever part of it the kernel takes at a time. */
static int write_whole(int descriptor, const char *head, size_t head_length, const char *bytes,
                       size_t length)
{
    while (head_length + length > 0) {
        struct iovec parts[] = {{(char *)head, head_length},
                                {(char *)bytes, FAULT_LENGTH("writer.write", length)}};
        ssize_t n = FAULT_CALL("writer.write", writev(descriptor, parts, 2));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        size_t of_head = (size_t)n < head_length ? (size_t)n : head_length;
        if (of_head > 0)
            head += of_head; /* NULL when there is none */
        head_length -= of_head;
        bytes += (size_t)n - of_head;
        length -= (size_t)n - of_head;
    }
    return 0;
}

static int write_bytes(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->descriptor < 0) {
        writer->descriptor = FAULT_CALL(
            "writer.create", openat(directory_of(writer), writer->id,
                                    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_FILE_MODE));
        if (writer->descriptor < 0)
            return errno;
    }
    int error =
        write_whole(writer->descriptor, writer->head.data, writer->head.length, bytes, length);
    if (error == 0) {
        buffer_free(&writer->head);
        writer->size += length;
    }
    return error;
}

int writer_append(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->error != 0)
        return writer->error;
    off_t from = (off_t)(writer->descriptor < 0 ? 0 : writer->head_length + writer->size);
    int error = write_bytes(writer, bytes, length);
    if (error != 0)
        return writer_fail(writer, error);
    writer->pieces = true;
    /* Starts the disk on this piece now, so that the commit at the end, which others share, has
     * little left to wait for. A hint: what fails here is reported by the fsync in commit_run. */
    FAULT_CALL("writer.write_back",
               sync_file_range(writer->descriptor, from, 0, SYNC_FILE_RANGE_WRITE));
    return 0;
}

int writer_finish(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->error != 0)
        return writer->error;
    char digits[ENVELOPE_SIZE_DIGITS];
    envelope_encode_size(digits, writer->size + length);
    if (writer->head.length > 0)
        memcpy(writer->head.data + size_offset(writer), digits, sizeof digits);

    bool whole = writer->descriptor < 0;
    int error = write_bytes(writer, bytes, length);
    if (error == 0 && !whole) {
        ssize_t n;
        do
            n = FAULT_CALL("writer.size", pwrite(writer->descriptor, digits,
                                                 FAULT_LENGTH("writer.size", sizeof digits),
                                                 (off_t)size_offset(writer)));
        while (n < 0 && errno == EINTR);
        /* A short write of 16 bytes within a file that has them already is the disk failing. */
        if (n != (ssize_t)sizeof digits)
            error = n < 0 ? errno : EIO;
    }
    return error == 0 ? 0 : writer_fail(writer, error);
}

/* With the mtime set before the sync, which is then of both. */
static int make_durable(int file, int64_t modified)
{
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = modified / 1000000, .tv_nsec = modified % 1000000 * 1000},
    };
    if (modified != 0 && FAULT_CALL("place.time", futimens(file, times)) < 0)
        return errno;
    return FAULT_CALL("place.fsync", fsync(file)) < 0 ? errno : 0;
}

int writer_place(struct writer *writer, enum queue_directory directory, const char *name,
                 int64_t modified)
{
    if (writer->error != 0)
        return writer->error;
    int error = make_durable(writer->descriptor, modified);
    if (error == 0 &&
        FAULT_CALL("place.rename",
                   renameat(directory_of(writer), writer->id,
                            writer->spool->directories[writer->queue][directory], name)) < 0)
        error = errno;
    if (error != 0)
        return writer_fail(writer, error);
    close(writer->descriptor);
    writer->descriptor = -1;
    return 0;
}
