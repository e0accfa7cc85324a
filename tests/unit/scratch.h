/* A spool in a directory of its own, for unit tests of what touches files. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include "queue/spool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch {
    char path[64];
    struct spool spool;
    enum queue queue; /* the one that the functions below work on: store/ until set */
};

static inline int scratch_remove_cb(const char *path, const struct stat *status, int type,
                                    struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

/* Setup for cmocka: *state is a struct scratch with an open spool under `parent`. */
static inline int scratch_setup_in(void **state, const char *parent)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    snprintf(scratch->path, sizeof scratch->path, "%s/mayfly-unit-XXXXXX", parent);
    assert_non_null(mkdtemp(scratch->path));
    assert_int_equal(spool_open(&scratch->spool, scratch->path), 0);
    *state = scratch;
    return 0;
}

static inline int scratch_setup(void **state)
{
    return scratch_setup_in(state, "/var/tmp");
}

static inline int scratch_teardown(void **state)
{
    struct scratch *scratch = *state;
    spool_close(&scratch->spool);
    nftw(scratch->path, scratch_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
    free(scratch);
    return 0;
}

static inline int scratch_directory(const struct scratch *scratch, enum queue_directory directory)
{
    return scratch->spool.directories[scratch->queue][directory];
}

static inline bool scratch_exists(const struct scratch *scratch, enum queue_directory directory,
                                  const char *name)
{
    return faccessat(scratch_directory(scratch, directory), name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline void scratch_write(const struct scratch *scratch, enum queue_directory directory,
                                 const char *name, const void *bytes, size_t length)
{
    int file =
        openat(scratch_directory(scratch, directory), name, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, length), (ssize_t)length);
    close(file);
}

/* The contents of a file, allocated, with a NUL behind them. */
static inline char *scratch_read(const struct scratch *scratch, enum queue_directory directory,
                                 const char *name, size_t *length)
{
    int file = openat(scratch_directory(scratch, directory), name, O_RDONLY);
    assert_true(file >= 0);
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    char *bytes = calloc(1, (size_t)status.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(file, bytes, (size_t)status.st_size), status.st_size);
    close(file);
    *length = (size_t)status.st_size;
    return bytes;
}

#endif
