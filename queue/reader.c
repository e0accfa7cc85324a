/* Reading a message's file: see the header. */
#include "queue/reader.h"

#include "common/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most messages are read whole with the first read. */
enum { READER_FIRST_READ = 16 * 1024 };

/* Reads until `length` bytes or the end of the file; the number of bytes, or -1 with errno. */
static ssize_t read_fully(int descriptor, void *bytes, size_t length, uint64_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = FAULT_CALL("reader.read", pread(descriptor, (char *)bytes + done,
                                                    FAULT_LENGTH("reader.read", length - done),
                                                    (off_t)(offset + done)));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static enum reader_status reader_bad(struct reader *reader, const char *why)
{
    reader->why = why;
    return READER_BAD;
}

static enum reader_status reader_error(struct reader *reader, int error)
{
    reader->error = error;
    return READER_ERROR;
}

static enum reader_status open_file(struct reader *reader, int directory, const char *name,
                                    uint64_t *size)
{
    /* O_NONBLOCK: somebody may have put a FIFO there, whose open would wait for a writer. */
    reader->descriptor = FAULT_CALL(
        "reader.open", openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (reader->descriptor < 0) {
        if (errno == ENOENT)
            return READER_GONE;
        if (errno == ELOOP || errno == ENXIO)
            return reader_bad(reader, "not a regular file");
        return reader_error(reader, errno);
    }
    struct stat file;
    if (FAULT_CALL("reader.stat", fstat(reader->descriptor, &file)) < 0)
        return reader_error(reader, errno);
    if (!S_ISREG(file.st_mode))
        return reader_bad(reader, "not a regular file");
    reader->modified = (int64_t)file.st_mtim.tv_sec * 1000000 + file.st_mtim.tv_nsec / 1000;
    *size = (uint64_t)file.st_size;
    return READER_OK;
}

/* Reads the head of the file, in growing steps until the envelope in it is whole. */
static enum reader_status read_envelope(struct reader *reader, uint64_t file_size)
{
    buffer_init(&reader->head, ENVELOPE_MAX + ENVELOPE_LINE_MAX);
    size_t wanted = READER_FIRST_READ;
    for (;;) {
        if (wanted > file_size)
            wanted = (size_t)file_size;
        if (!buffer_reserve(&reader->head, wanted - reader->head.length))
            return reader->head.length > ENVELOPE_MAX
                       ? reader_bad(reader, "the envelope is too long")
                       : reader_error(reader, ENOMEM);
        ssize_t n = read_fully(reader->descriptor, reader->head.data + reader->head.length,
                               wanted - reader->head.length, reader->head.length);
        if (n < 0)
            return reader_error(reader, errno);
        reader->head.length += (size_t)n;

        size_t consumed;
        switch (envelope_parse(&reader->envelope, reader->head.data, reader->head.length, &consumed,
                               &reader->why)) {
        case ENVELOPE_OK:
            reader->start = consumed;
            return READER_OK;
        case ENVELOPE_BAD:
            return READER_BAD;
        case ENVELOPE_NO_MEMORY:
            return reader_error(reader, ENOMEM);
        case ENVELOPE_INCOMPLETE:
            break;
        }
        if (reader->head.length >= file_size)
            return reader_bad(reader, "torn: the file ends within the envelope");
        wanted = reader->head.length * 4;
        if (wanted > reader->head.maximum)
            wanted = reader->head.maximum;
        if (wanted == reader->head.length)
            return reader_bad(reader, "the envelope is too long");
    }
}

enum reader_status reader_open_named(struct reader *reader, const struct spool *spool,
                                     enum queue queue, enum queue_directory directory,
                                     const char *name, const char *id)
{
    *reader = (struct reader){.descriptor = -1};
    uint64_t file_size = 0;
    enum reader_status status =
        open_file(reader, spool->directories[queue][directory], name, &file_size);
    if (status == READER_OK && file_size == 0)
        status = reader_bad(reader, "torn: the file is empty");
    if (status == READER_OK)
        status = read_envelope(reader, file_size);
    if (status == READER_OK && id != NULL && strcmp(reader->envelope.id, id) != 0)
        status = reader_bad(reader, "forged: the envelope names another id");
    if (status == READER_OK && reader->envelope.size != file_size - reader->start)
        status = reader_bad(reader, "torn: the file's length is not what X-Envelope-Size says");
    if (status != READER_OK)
        reader_close(reader);
    return status;
}

enum reader_status reader_open(struct reader *reader, const struct spool *spool, enum queue queue,
                               enum queue_directory directory, const char *name)
{
    if (id_valid(name))
        return reader_open_named(reader, spool, queue, directory, name, name);
    *reader = (struct reader){.descriptor = -1};
    return reader_bad(reader, "the name is not a message id");
}

int reader_read(struct reader *reader, void *bytes, size_t length)
{
    uint64_t offset = reader->start + reader->position;
    size_t in_head = 0;
    if (offset < reader->head.length) {
        in_head = reader->head.length - (size_t)offset;
        if (in_head > length)
            in_head = length;
        memcpy(bytes, reader->head.data + offset, in_head);
    }
    ssize_t n =
        read_fully(reader->descriptor, (char *)bytes + in_head, length - in_head, offset + in_head);
    if (n < 0)
        return errno;
    if ((size_t)n != length - in_head)
        return EIO;
    reader->position += length;
    return 0;
}

void reader_close(struct reader *reader)
{
    if (reader->descriptor >= 0)
        close(reader->descriptor);
    reader->descriptor = -1;
    buffer_free(&reader->head);
    envelope_free(&reader->envelope);
}
