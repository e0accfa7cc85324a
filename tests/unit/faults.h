/* A file system that fails on demand: in place of the C library's, the calls that change the spool.
 * One of them fails, or is where the process dies, or where the power goes off: then what was not
 * synced by then is undone, in the directories that are said to have lost it. Nothing is really
 * synced, for no test looks behind a real power cut. */
#ifndef TESTS_UNIT_FAULTS_H
#define TESTS_UNIT_FAULTS_H

#include "queue/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FAULTS_CHANGES = 512, FAULTS_NAME = 128 };

struct faults_change {
    int from, to; /* directories; `from` -1: an unlink in `to` */
    char old_name[FAULTS_NAME], new_name[FAULTS_NAME];
    bool replaced; /* what was at the new name is kept under the number of the change */
    bool lasting;
    int unsynced; /* a descriptor of a file whose bytes were not synced before; -1: they were */
};

static struct faults {
    bool armed;
    long calls;    /* so far */
    long fail_at;  /* the call that fails with EIO, 0: none */
    long die_at;   /* the call before which the process ends, 0: none */
    long leave_at; /* the call before which control goes to `left`, 0: none */
    jmp_buf left;
    unsigned lost; /* bits of 1 << queue_directory that a power cut undoes; 0: it is no power cut */
    int attic;     /* directory of what was replaced or removed */
    const struct spool *spool;
    struct faults_change changes[FAULTS_CHANGES];
    size_t count;
    struct {
        dev_t device;
        ino_t inode;
    } synced[FAULTS_CHANGES];
    size_t synced_count;
    long directory_syncs;
    bool *recorded; /* set when new/ or cur/ of relay/ was synced first; may be shared */
} faults;

static inline int faults_rename(int from, const char *old, int to, const char *new)
{
    return (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

static inline int faults_unlink(int directory, const char *name, int flags)
{
    return (int)syscall(SYS_unlinkat, directory, name, flags);
}

static inline bool faults_is_lost(const struct faults_change *change)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
            if (faults.spool->directories[queue][i] == change->to)
                return (faults.lost & 1U << i) != 0;
    return false;
}

/* The last change first. */
static inline void faults_undo(void)
{
    for (size_t i = faults.count; i-- > 0;) {
        struct faults_change *change = &faults.changes[i];
        char kept[32];
        if (change->unsynced >= 0 && ftruncate(change->unsynced, 0) < 0)
            abort();
        if (change->lasting || !faults_is_lost(change))
            continue;
        snprintf(kept, sizeof kept, "%zu", i);
        if (change->from >= 0 &&
            faults_rename(change->to, change->new_name, change->from, change->old_name) < 0)
            abort();
        if (change->replaced && faults_rename(faults.attic, kept, change->to, change->new_name) < 0)
            abort();
    }
}

/* Counts a call; true when it is to fail. */
static inline bool faults_strike(void)
{
    if (!faults.armed)
        return false;
    faults.calls++;
    if (faults.calls == faults.die_at) {
        if (faults.lost != 0)
            faults_undo();
        _exit(0);
    }
    /* As when a process is killed, whose successor finds in the cache what was not synced. */
    if (faults.calls == faults.leave_at)
        longjmp(faults.left, 1);
    return faults.calls == faults.fail_at;
}

static inline bool faults_was_synced(int directory, const char *name)
{
    struct stat file;

    if (fstatat(directory, name, &file, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    for (size_t i = 0; i < faults.synced_count; i++)
        if (faults.synced[i].device == file.st_dev && faults.synced[i].inode == file.st_ino)
            return true;
    return false;
}

/* Notes a change before it is made. Only a file that was written in tmp/ can have unsynced bytes. */
static inline void faults_note(int from, const char *old, int to, const char *new)
{
    struct faults_change *change = &faults.changes[faults.count];
    char kept[32];

    if (faults.count == FAULTS_CHANGES)
        abort();
    *change = (struct faults_change){.from = from, .to = to, .unsynced = -1};
    snprintf(change->old_name, FAULTS_NAME, "%s", old);
    snprintf(change->new_name, FAULTS_NAME, "%s", new);
    snprintf(kept, sizeof kept, "%zu", faults.count);
    change->replaced = linkat(to, new, faults.attic, kept, 0) == 0;
    for (int queue = 0; from >= 0 && queue < QUEUE_COUNT; queue++)
        if (faults.spool->directories[queue][QUEUE_TMP] == from && !faults_was_synced(from, old))
            change->unsynced = openat(from, old, O_WRONLY | O_CLOEXEC);
    faults.count++;
}

int renameat(int from, const char *old, int to, const char *new)
{
    if (faults_strike()) {
        errno = EIO;
        return -1;
    }
    if (faults.armed)
        faults_note(from, old, to, new);
    return faults_rename(from, old, to, new);
}

int unlinkat(int directory, const char *name, int flags)
{
    if (faults_strike()) {
        errno = EIO;
        return -1;
    }
    if (faults.armed && faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        faults_note(-1, name, directory, name);
    return faults_unlink(directory, name, flags);
}

int futimens(int file, const struct timespec times[2])
{
    if (faults_strike()) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_utimensat, file, NULL, times, 0);
}

static inline void faults_sync_directory(int directory)
{
    faults.directory_syncs++;
    for (size_t i = 0; i < faults.count; i++)
        if (faults.changes[i].to == directory || faults.changes[i].from == directory)
            faults.changes[i].lasting = true;
    if (faults.recorded != NULL &&
        (directory == faults.spool->directories[QUEUE_RELAY][QUEUE_NEW] ||
         directory == faults.spool->directories[QUEUE_RELAY][QUEUE_CUR]))
        *faults.recorded = true;
}

int fsync(int descriptor)
{
    struct stat file;

    if (faults_strike()) {
        errno = EIO;
        return -1;
    }
    if (!faults.armed || fstat(descriptor, &file) < 0)
        return 0;
    if (S_ISDIR(file.st_mode)) {
        faults_sync_directory(descriptor);
    } else {
        if (faults.synced_count == FAULTS_CHANGES)
            abort();
        faults.synced[faults.synced_count].device = file.st_dev;
        faults.synced[faults.synced_count++].inode = file.st_ino;
    }
    return 0;
}

/* From now on calls count. The attic is the caller's. */
static inline void faults_arm(const struct spool *spool, int attic)
{
    for (size_t i = 0; i < faults.count; i++)
        if (faults.changes[i].unsynced >= 0)
            close(faults.changes[i].unsynced);
    faults = (struct faults){.armed = true, .spool = spool, .attic = attic};
}

static inline void faults_disarm(void)
{
    faults.armed = false;
}

#endif
