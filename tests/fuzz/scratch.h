/* A spool for a fuzz target, in memory where there is such a file system: thousands of files a
 * second are nothing for a disk. In TMPDIR when that is set, as tests/fuzz/run.sh does, which also
 * clears up behind a target that was broken. */
#ifndef TESTS_FUZZ_SCRATCH_H
#define TESTS_FUZZ_SCRATCH_H

#include "queue/spool.h"

#include "fuzz.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_path[4096];

static inline int scratch_remove_cb(const char *path, const struct stat *status, int type,
                                    struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline void scratch_remove(void)
{
    nftw(scratch_path, scratch_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

/* Makes a directory that is gone when the process ends in order. */
static inline const char *scratch_make(void)
{
    const char *parent = getenv("TMPDIR");

    if (parent == NULL)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch_path, sizeof scratch_path, "%s/mayfly-fuzz-XXXXXX", parent);
    LAW(mkdtemp(scratch_path) != NULL);
    atexit(scratch_remove);
    return scratch_path;
}

#endif
