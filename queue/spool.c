/* Directories of the spool: made, opened, locked. The states and the crash argument stand in the
 * header. */
#include "queue/spool.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

const char *const queue_names[QUEUE_COUNT] = {
    [QUEUE_STORE] = "store",
    [QUEUE_RELAY] = "relay",
};

const char *const queue_directory_names[QUEUE_DIRECTORY_COUNT] = {
    [QUEUE_TMP] = "tmp",
    [QUEUE_NEW] = "new",
    [QUEUE_CUR] = "cur",
    [QUEUE_FAILED] = "failed",
};

/* Makes a directory with exactly the spool's mode. mkdir is subject to the umask and drops the
 * set-group-ID bit, hence the chmod; only on a directory that we made, for the modes of one that
 * was there are its owner's choice. */
static int directory_make(int parent, const char *name)
{
    if (mkdirat(parent, name, SPOOL_DIRECTORY_MODE & 0777) < 0)
        return errno == EEXIST ? 0 : errno;
    if (fchmodat(parent, name, SPOOL_DIRECTORY_MODE, 0) < 0)
        return errno;
    return 0;
}

/* Syncs the directory that a path's last part stands in, so that the spool itself outlives a power
 * cut. One that we may not read was not made by us, nor was the spool in it. */
static int parent_sync(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return ENOMEM;
    int parent = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = parent < 0 ? errno : 0;
    if (error == 0 && fsync(parent) < 0)
        error = errno;
    if (parent >= 0)
        close(parent);
    free(copy);
    return error == EACCES ? 0 : error;
}

static int directory_open(int parent, const char *name, bool make, int *descriptor)
{
    if (make) {
        int error = directory_make(parent, name);
        if (error != 0)
            return error;
    }
    *descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *descriptor < 0 ? errno : 0;
}

static int queue_open(struct spool *spool, enum queue queue, bool make)
{
    int error = directory_open(spool->root, queue_names[queue], make, &spool->queues[queue]);
    for (int i = 0; error == 0 && i < QUEUE_DIRECTORY_COUNT; i++)
        error = directory_open(spool->queues[queue], queue_directory_names[i], make,
                               &spool->directories[queue][i]);
    /* The directories themselves have to outlive a power cut, else so would nothing in them. */
    if (error == 0 && make && fsync(spool->queues[queue]) < 0)
        error = errno;
    return error;
}

static int spool_open_as(struct spool *spool, const char *path, bool make)
{
    spool->root = -1;
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        spool->queues[queue] = -1;
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
            spool->directories[queue][i] = -1;
    }
    spool->path = strdup(path);
    int error = spool->path ? directory_open(AT_FDCWD, path, make, &spool->root) : ENOMEM;
    for (int queue = 0; error == 0 && queue < QUEUE_COUNT; queue++)
        error = queue_open(spool, (enum queue)queue, make);
    if (error == 0 && make && fsync(spool->root) < 0)
        error = errno;
    if (error == 0 && make)
        error = parent_sync(path);
    if (error != 0)
        spool_close(spool);
    return error;
}

int spool_open(struct spool *spool, const char *path)
{
    int error = spool_open_as(spool, path, true);
    if (error != 0)
        log_error("spool_unusable", LOG_TEXT("path", path), LOG_ERRNO(error));
    return error;
}

int spool_open_existing(struct spool *spool, const char *path)
{
    return spool_open_as(spool, path, false);
}

static void descriptor_close(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

void spool_close(struct spool *spool)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
            descriptor_close(&spool->directories[queue][i]);
        descriptor_close(&spool->queues[queue]);
    }
    descriptor_close(&spool->root);
    free(spool->path);
    spool->path = NULL;
}

int spool_lock(const struct spool *spool, enum queue queue)
{
    /* The lock belongs to an open file description, so it needs one of its own. */
    int lock = openat(spool->root, queue_names[queue], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return -1;
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        int error = errno;
        close(lock);
        errno = error;
        return -1;
    }
    return lock;
}

char *spool_directory_path(const struct spool *spool, enum queue queue,
                           enum queue_directory directory)
{
    char *path;
    if (asprintf(&path, "%s/%s/%s", spool->path, queue_names[queue],
                 queue_directory_names[directory]) < 0)
        return NULL;
    return path;
}

int spool_room(const struct spool *spool, enum queue queue, uint64_t *bytes, uint64_t *files)
{
    struct statvfs room;
    if (fstatvfs(spool->directories[queue][QUEUE_TMP], &room) < 0)
        return errno;
    *bytes = (uint64_t)room.f_bavail * room.f_frsize;
    /* btrfs and some others have no fixed table of inodes and say 0 of 0. */
    *files = room.f_files == 0 ? UINT64_MAX : (uint64_t)room.f_favail;
    return 0;
}
