/* Group commit: the one place that takes responsibility for a message.
 *
 * Why it is safe, COMMIT_SYNCFS. All files of the group lie complete in tmp/, their data handed to
 * the device by sync_file_range; then those for storer are renamed into new/, and one syncfs(2) makes
 * everything durable: data, inodes, and the directory entries. syncfs is documented to write out and
 * wait for all of the file system that holds the descriptor (sync(2): on Linux it waits for
 * completion), and since Linux 5.8 to return an error for any write-back that failed since the descriptor was opened
 * or last synced. ext4, XFS and btrfs end it with a cache flush of the device; from Linux 5.17 an
 * error of that last step is returned too. Hence the list of file systems and the version:
 * overlayfs, FUSE and network file systems may not pass the call down, and get COMMIT_FSYNC.
 *
 * - The rename comes before the flush, so the queue's reader may see a message that is not durable
 *   yet. For storer that is harmless: the message is unacknowledged, and storer removes the file
 *   only once PostgreSQL has it durably. relay would send it on, and what was sent cannot be
 *   withdrawn. So relay's files come last, when whatever can go wrong with store's has; and their
 *   bytes are durable before the rename, by a flush of their own, or by store's where both queues are
 *   on one file system. A second flush makes their names durable.
 * - A message for both queues is two files, whose writers are twins. store's is in new/, durably,
 *   before relay's is renamed; 250 is said behind both. smtpd or the power lost between the two:
 *   storer stores what it has, relay has nothing, and the client, who was told nothing, sends all of
 *   it again. When one of the two fails the other is withdrawn; if its reader was faster, or the power
 *   goes off before the disk knows of that, it is again a message that the client sends once more.
 * - Power lost before the flush is done: nothing of the group was acknowledged. The data went to
 *   the device before the rename entered the journal, whose own commit flushes the device's cache,
 *   so a name in new/ normally has its bytes; where it has not, X-Envelope-Size gives it away.
 * - An error is reported once to a descriptor, then forgotten. So a failed group is withdrawn as a
 *   whole and never synced again: a second sync would succeed without the data being there. And so
 *   there is one struct commit a committer, used by one thread at a time: two groups that share
 *   the descriptor could not tell whose error it was. Two queues on one file system do share it, for
 *   each flush is of both: what store's reports is the error of relay's files, too.
 * - A message written in pieces may have been written back, and failed, while an earlier group was
 *   committed, which then got the report. Its own descriptor, open since its first byte, still
 *   reports it: hence its fsync. A message written whole in this turn cannot have that history.
 * - The journal may have been committed, and have failed, before syncfs was called: the file system's
 *   own timer does that, or anybody's fsync. The journal is aborted then, syncfs finds nothing left
 *   to wait for and succeeds, and so does an fsync; the renames are lost. But an aborted journal
 *   stays aborted, and refuses every change. So one more change follows the flush: a file without a
 *   name. When that is refused the group is withdrawn; when it is not, the journal stood after the
 *   flush, and all before it is on the disk. Behind the flush of relay's bytes their rename is that
 *   change.
 *
 * COMMIT_FSYNC is the rule of POSIX and Linux: fsync of each file before its rename, fsync of the
 * directory after (fsync(2): an entry needs an explicit fsync of its directory). relay's renames come
 * behind store's here as well. */
#include "queue/commit.h"

#include "common/fault.h"
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
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
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

static bool same_file_system(const struct spool *spool, enum queue one, enum queue other)
{
    struct stat a, b;
    return fstat(spool->directories[one][QUEUE_NEW], &a) == 0 &&
           fstat(spool->directories[other][QUEUE_NEW], &b) == 0 && a.st_dev == b.st_dev;
}

static bool share_flush(const struct commit *commit)
{
    int descriptor = commit->queues[QUEUE_RELAY].sync_descriptor;
    return descriptor >= 0 && descriptor == commit->queues[QUEUE_STORE].sync_descriptor;
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
    struct commit_queue *store = &commit->queues[QUEUE_STORE],
                        *relay = &commit->queues[QUEUE_RELAY];
    /* There is one to share only where both have the same method. */
    if (store->sync_descriptor >= 0 && relay->sync_descriptor >= 0 &&
        same_file_system(spool, QUEUE_STORE, QUEUE_RELAY)) {
        close(relay->sync_descriptor);
        relay->sync_descriptor = store->sync_descriptor;
    }
    return 0;
}

void commit_close(struct commit *commit)
{
    if (share_flush(commit))
        commit->queues[QUEUE_RELAY].sync_descriptor = -1;
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
    return commit->queues[writer->queue].method == COMMIT_FSYNC || writer->pieces;
}

/* Takes a message back, in each of its queues and wherever its file there is by now, and gives up
 * the descriptors. */
static void message_withdraw(const struct commit *commit, struct writer *writer, int error)
{
    struct writer *files[] = {writer, writer->twin};
    for (size_t i = 0; i < 2 && files[i] != NULL; i++) {
        int directory = commit->spool->directories[files[i]->queue][QUEUE_NEW];
        if (FAULT_CALL("commit.withdraw", unlinkat(directory, files[i]->id, 0)) < 0 &&
            errno != ENOENT)
            log_error("not_withdrawn", LOG_TEXT("id", files[i]->id), LOG_ERRNO(errno));
        files[i]->error = error;
    }
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
            FAULT_CALL("commit.write_back",
                       sync_file_range(writers[i]->descriptor, 0, 0, SYNC_FILE_RANGE_WRITE));
    }
    for (size_t i = 0; i < count; i++) {
        struct writer *writer = writers[i];
        if (writer->error != 0)
            continue;
        int result =
            needs_fsync(commit, writer)
                ? FAULT_CALL("commit.fsync", fsync(writer->descriptor))
                : FAULT_CALL("commit.wait",
                             sync_file_range(writer->descriptor, 0, 0,
                                             SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                                 SYNC_FILE_RANGE_WAIT_AFTER));
        if (result < 0)
            message_withdraw(commit, writer, errno);
    }
}

static bool is_left(const struct writer *writer, enum queue queue)
{
    return writer->error == 0 && writer->queue == queue;
}

/* The name of a message that is left of the group in a queue, or NULL. */
static const char *name_in(enum queue queue, struct writer *const writers[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_left(writers[i], queue))
            return writers[i]->id;
    }
    return NULL;
}

static void queue_rename(const struct commit *commit, enum queue queue,
                         struct writer *const writers[], size_t count)
{
    const int *directories = commit->spool->directories[queue];
    for (size_t i = 0; i < count; i++) {
        const char *id = writers[i]->id;
        if (is_left(writers[i], queue) &&
            FAULT_CALL("commit.rename",
                       renameat(directories[QUEUE_TMP], id, directories[QUEUE_NEW], id)) < 0)
            message_withdraw(commit, writers[i], errno);
    }
}

static void queue_withdraw(const struct commit *commit, enum queue queue,
                           struct writer *const writers[], size_t count, int error)
{
    for (size_t i = 0; i < count; i++) {
        if (is_left(writers[i], queue))
            message_withdraw(commit, writers[i], error);
    }
}

/* Whether the file system still takes changes: see the head of the file. A file system that knows no
 * file without a name gets one with the name of a message's, which is as good. */
static int check_journal(int tmp, const char *name)
{
    int file = FAULT_CALL("commit.journal",
                          openat(tmp, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, SPOOL_FILE_MODE));
    bool named = file < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT);
    if (named)
        file =
            FAULT_CALL("commit.journal_name",
                       openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_FILE_MODE));
    if (file < 0)
        return errno;
    close(file);
    return named && FAULT_CALL("commit.journal_unlink", unlinkat(tmp, name, 0)) < 0 ? errno : 0;
}

/* Makes what was renamed in a queue durable. `name` is that of a message that is in new/. */
static int queue_flush(const struct commit *commit, enum queue queue, const char *name)
{
    const struct commit_queue *how = &commit->queues[queue];
    const int *directories = commit->spool->directories[queue];
    int result = how->method == COMMIT_SYNCFS
                     ? FAULT_CALL("commit.syncfs", syncfs(how->sync_descriptor))
                     : FAULT_CALL("commit.fsync_new", fsync(directories[QUEUE_NEW]));
    return result < 0 ? errno : check_journal(directories[QUEUE_TMP], name);
}

/* Moves what is left of the group in a queue to new/, for good. Returns 0 or the error of the flush,
 * for which all of that was withdrawn; `*flushed` says whether there was one. */
static int queue_commit(const struct commit *commit, enum queue queue,
                        struct writer *const writers[], size_t count, bool *flushed)
{
    queue_rename(commit, queue, writers, count);
    const char *name = name_in(queue, writers, count);
    *flushed = name != NULL;
    if (name == NULL)
        return 0;
    int error = queue_flush(commit, queue, name);
    if (error != 0)
        queue_withdraw(commit, queue, writers, count, error);
    return error;
}

/* Makes the bytes of relay's files durable while they are in tmp/. With COMMIT_FSYNC they are. */
static int relay_prepare(const struct commit *commit)
{
    const struct commit_queue *relay = &commit->queues[QUEUE_RELAY];
    return relay->method == COMMIT_SYNCFS &&
                   FAULT_CALL("commit.syncfs_relay", syncfs(relay->sync_descriptor)) < 0
               ? errno
               : 0;
}

void commit_run(struct commit *commit, struct writer *const writers[], size_t count)
{
    bool flushed;
    group_write_back(commit, writers, count);
    int error = queue_commit(commit, QUEUE_STORE, writers, count, &flushed);

    if (name_in(QUEUE_RELAY, writers, count) != NULL) {
        if (!flushed || !share_flush(commit))
            error = relay_prepare(commit);
        if (error == 0)
            queue_commit(commit, QUEUE_RELAY, writers, count, &flushed);
        else
            queue_withdraw(commit, QUEUE_RELAY, writers, count, error);
    }

    for (size_t i = 0; i < count; i++) {
        struct writer *writer = writers[i];
        if (writer->error != 0)
            continue;
        close(writer->descriptor);
        writer->descriptor = -1;
    }
}
