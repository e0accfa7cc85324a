/* Group commit: the one place that takes responsibility for a message.
 *
 * Why it is safe, COMMIT_SYNCFS. All files of the group lie complete in tmp/, their data handed to
 * the device by sync_file_range; then all are renamed into new/, and one syncfs(2) makes everything
 * durable: data, inodes, and the directory entries. syncfs is documented to write out and wait for
 * all of the file system that holds the descriptor (sync(2): on Linux it waits for completion), and
 * since Linux 5.8 to return an error for any write-back that failed since the descriptor was opened
 * or last synced. ext4, XFS and btrfs end it with a cache flush of the device; from Linux 5.17 an
 * error of that last step is returned too. Hence the list of file systems and the version:
 * overlayfs, FUSE and network file systems may not pass the call down, and get COMMIT_FSYNC.
 *
 * - The rename comes before the flush, so the queue's reader may see a message that is not durable
 *   yet. For storer that is harmless: the message is unacknowledged, and storer removes the file
 *   only once PostgreSQL has it durably. relay would send it on, so a message for relay is synced
 *   before its rename.
 * - Power lost before the flush is done: nothing of the group was acknowledged. The data went to
 *   the device before the rename entered the journal, whose own commit flushes the device's cache,
 *   so a name in new/ normally has its bytes; where it has not, X-Envelope-Size gives it away.
 * - An error is reported once to a descriptor, then forgotten. So a failed group is withdrawn as a
 *   whole and never synced again: a second sync would succeed without the data being there. And so
 *   there is one struct commit a committer, used by one thread at a time: two groups that share
 *   the descriptor could not tell whose error it was.
 * - A message written in pieces may have been written back, and failed, while an earlier group was
 *   committed, which then got the report. Its own descriptor, open since its first byte, still
 *   reports it: hence its fsync. A message written whole in this turn cannot have that history.
 * - The journal may have been committed, and have failed, before syncfs was called: the file system's
 *   own timer does that, or anybody's fsync. The journal is aborted then, syncfs finds nothing left
 *   to wait for and succeeds, and so does an fsync; the renames are lost. But an aborted journal
 *   stays aborted, and refuses every change. So one more change follows the flush: a file without a
 *   name. When that is refused the group is withdrawn; when it is not, the journal stood after the
 *   flush, and all before it is on the disk.
 *
 * COMMIT_FSYNC is the rule of POSIX and Linux: fsync of each file before its rename, fsync of the
 * directory after (fsync(2): an entry needs an explicit fsync of its directory). */
#include "queue/commit.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static bool syncfs_reports_errors(void)
{
    struct utsname kernel;
    int major, minor;
    if (uname(&kernel) < 0 || sscanf(kernel.release, "%d.%d", &major, &minor) != 2)
        return false;
    return major > 5 || (major == 5 && minor >= 17);
}

static enum commit_method method_for(const struct statfs *file_system)
{
    if (!syncfs_reports_errors())
        return COMMIT_FSYNC;
    switch ((unsigned long)file_system->f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
        return COMMIT_SYNCFS;
    default:
        return COMMIT_FSYNC;
    }
}

/* By new/, not by the spool: a queue may be a mount of its own. */
static int queue_prepare(struct commit_queue *queue, const int directories[QUEUE_DIRECTORY_COUNT])
{
    struct stat tmp, new;
    struct statfs file_system;
    if (fstat(directories[QUEUE_TMP], &tmp) < 0 || fstat(directories[QUEUE_NEW], &new) < 0 ||
        fstatfs(directories[QUEUE_NEW], &file_system) < 0)
        return errno;
    if (tmp.st_dev != new.st_dev)
        return EXDEV;
    queue->method = method_for(&file_system);
    if (queue->method == COMMIT_FSYNC)
        return 0;
    queue->sync_descriptor =
        openat(directories[QUEUE_NEW], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return queue->sync_descriptor < 0 ? errno : 0;
}

int commit_open(struct commit *commit, const struct spool *spool)
{
    *commit = (struct commit){.spool = spool};
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        commit->queues[queue].sync_descriptor = -1;
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        int error = queue_prepare(&commit->queues[queue], spool->directories[queue]);
        if (error != 0) {
            log_error("queue_unusable", LOG_TEXT("path", spool->path),
                      LOG_TEXT("queue", queue_names[queue]), LOG_ERRNO(error));
            commit_close(commit);
            return error;
        }
    }
    return 0;
}

void commit_close(struct commit *commit)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        if (commit->queues[queue].sync_descriptor >= 0)
            close(commit->queues[queue].sync_descriptor);
        commit->queues[queue].sync_descriptor = -1;
    }
}

const char *commit_method_name(enum commit_method method)
{
    return method == COMMIT_SYNCFS ? "syncfs" : "fsync";
}

/* Whether this file has to be durable by itself before it is renamed: see the head of the file. */
static bool needs_fsync(const struct commit *commit, const struct writer *writer)
{
    return commit->queues[writer->queue].method == COMMIT_FSYNC || writer->pieces ||
           writer->queue != QUEUE_STORE;
}

static void writer_refuse(struct writer *writer, int error)
{
    writer->error = error;
    writer_abort(writer);
}

/* Brings the data of all files to the device: first all are begun, then each is waited for, so that
 * the device sees them together. sync_file_range promises nothing about durability; here it only
 * orders data before names, and syncfs makes the promise. */
static void group_write_back(const struct commit *commit, struct writer *const writers[],
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (writers[i]->error == 0)
            sync_file_range(writers[i]->descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    for (size_t i = 0; i < count; i++) {
        struct writer *writer = writers[i];
        if (writer->error != 0)
            continue;
        int result = needs_fsync(commit, writer)
                         ? fsync(writer->descriptor)
                         : sync_file_range(writer->descriptor, 0, 0,
                                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                               SYNC_FILE_RANGE_WAIT_AFTER);
        if (result < 0)
            writer_refuse(writer, errno);
    }
}

static void group_rename(const struct commit *commit, struct writer *const writers[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct writer *writer = writers[i];
        if (writer->error != 0)
            continue;
        const int *directories = commit->spool->directories[writer->queue];
        if (renameat(directories[QUEUE_TMP], writer->id, directories[QUEUE_NEW], writer->id) < 0)
            writer_refuse(writer, errno);
    }
}

/* Whether the file system still takes changes: see the head of the file. A file system that knows no
 * file without a name gets one with the name of a message's, which is as good. */
static int check_journal(int tmp, const char *name)
{
    int file = openat(tmp, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, SPOOL_FILE_MODE);
    bool named = file < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT);
    if (named)
        file = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_FILE_MODE);
    if (file < 0)
        return errno;
    close(file);
    return named && unlinkat(tmp, name, 0) < 0 ? errno : 0;
}

/* Makes what was renamed in a queue durable. `name` is that of a message that is in new/. */
static int queue_flush(const struct commit *commit, enum queue queue, const char *name)
{
    const struct commit_queue *how = &commit->queues[queue];
    const int *directories = commit->spool->directories[queue];
    int result =
        how->method == COMMIT_SYNCFS ? syncfs(how->sync_descriptor) : fsync(directories[QUEUE_NEW]);
    return result < 0 ? errno : check_journal(directories[QUEUE_TMP], name);
}

/* Flushes each queue that the group has a message in; its error, or 0, goes into `errors`. */
static void group_flush(const struct commit *commit, struct writer *const writers[], size_t count,
                        int errors[QUEUE_COUNT])
{
    const char *names[QUEUE_COUNT] = {NULL};
    for (size_t i = 0; i < count; i++) {
        if (writers[i]->error == 0)
            names[writers[i]->queue] = writers[i]->id;
    }
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        errors[queue] =
            names[queue] != NULL ? queue_flush(commit, (enum queue)queue, names[queue]) : 0;
}

/* Takes a file back out of new/ and gives up its descriptor. */
static void writer_withdraw(const struct commit *commit, struct writer *writer, int error)
{
    int directory = commit->spool->directories[writer->queue][QUEUE_NEW];
    if (unlinkat(directory, writer->id, 0) < 0 && errno != ENOENT)
        log_error("not_withdrawn", LOG_TEXT("id", writer->id), LOG_ERRNO(errno));
    writer_refuse(writer, error);
}

void commit_run(struct commit *commit, struct writer *const writers[], size_t count)
{
    group_write_back(commit, writers, count);
    group_rename(commit, writers, count);
    int errors[QUEUE_COUNT];
    group_flush(commit, writers, count, errors);

    for (size_t i = 0; i < count; i++) {
        struct writer *writer = writers[i];
        if (writer->error != 0)
            continue;
        if (errors[writer->queue] != 0) {
            writer_withdraw(commit, writer, errors[writer->queue]);
            continue;
        }
        close(writer->descriptor);
        writer->descriptor = -1;
    }
}
