/* Calls that fail, for unit tests of what is done then: a test is run again and again, and each time
 * another call of what it tests fails, the first, the second, ... until none is left to fail. In one
 * round with this error, in the next with that: what is promised is promised for each.
 *
 * The linker puts the functions here in the place of the C library's (FAILING in the Makefile), in
 * the archives and in the test. Nothing is counted and nothing fails but while it is armed. */
#ifndef TESTS_UNIT_FAILING_H
#define TESTS_UNIT_FAILING_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

/* In place of an error: what reads and writes does half of it, and all else what it should. */
enum { FAILING_SHORT = 0 };

static struct failing {
    bool armed;
    long calls, at; /* so far; the one that fails */
    int error;      /* with which, or FAILING_SHORT */
    const char *struck;
} failing;

/* Counts a call; whether it fails, with errno. */
static inline bool failing_strikes(const char *name, int error)
{
    if (!failing.armed || ++failing.calls != failing.at)
        return false;
    failing.struck = name;
    if (failing.error == FAILING_SHORT)
        return false;
    errno = error;
    return true;
}

static inline size_t failing_part(size_t whole)
{
    bool now = failing.armed && failing.calls == failing.at && failing.error == FAILING_SHORT;

    return now && whole > 1 ? whole / 2 : whole;
}

/* Begins a round in which the call `at` fails. */
static inline void failing_arm(long at, int error)
{
    failing = (struct failing){.armed = true, .at = at, .error = error};
}

/* Ends it: false when there were not so many calls. */
static inline bool failing_disarm(void)
{
    failing.armed = false;
    return failing.struck != NULL;
}

/* Descriptors that are open. */
static inline int failing_descriptors(void)
{
    int count = 0;

    for (int descriptor = 0; descriptor < 256; descriptor++)
        count += fcntl(descriptor, F_GETFD) >= 0;
    return count;
}

enum { FAILING_ROUNDS_MAX = 1000 };

/* The next round: false when the one before had fewer calls. It must have left as many descriptors as
 * it found. */
static inline bool failing_next(long *at, int *descriptors)
{
    int now = failing_descriptors();

    if (*at > 0)
        assert_int_equal(now, *descriptors);
    *descriptors = now;
    assert_true(*at < FAILING_ROUNDS_MAX);
    return ++*at == 1 || failing.struck != NULL;
}

/* The rounds of a test, in which `at` counts. */
#define FAILING_EACH(at)                                                                           \
    for (long at = 0, failing_once = 1; failing_once != 0; failing_once = 0)                       \
        for (int failing_open = 0; failing_next(&at, &failing_open);)

#define FAILING(type, name, failed, parameters, arguments)                                         \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return failing_strikes(#name, failing.error) ? (failed) : __real_##name arguments;         \
    }

/* Where there is no memory the error is always that. */
#define FAILING_MEMORY(type, name, parameters, arguments)                                          \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return failing_strikes(#name, ENOMEM) ? NULL : __real_##name arguments;                    \
    }

FAILING_MEMORY(void *, malloc, (size_t size), (size))
FAILING_MEMORY(void *, calloc, (size_t count, size_t size), (count, size))
FAILING_MEMORY(void *, realloc, (void *old, size_t size), (old, size))
FAILING_MEMORY(void *, reallocarray, (void *old, size_t count, size_t size), (old, count, size))
FAILING_MEMORY(char *, strdup, (const char *text), (text))

FAILING(int, fstat, -1, (int file, struct stat *status), (file, status))
FAILING(int, stat, -1, (const char *path, struct stat *status), (path, status))
FAILING(int, fstatat, -1, (int at, const char *name, struct stat *status, int flags),
        (at, name, status, flags))
FAILING(int, fstatvfs, -1, (int file, struct statvfs *status), (file, status))
FAILING(int, faccessat, -1, (int at, const char *name, int mode, int flags),
        (at, name, mode, flags))
FAILING(int, mkdirat, -1, (int at, const char *name, mode_t mode), (at, name, mode))
FAILING(int, fchmodat, -1, (int at, const char *name, mode_t mode, int flags),
        (at, name, mode, flags))
FAILING(int, fsync, -1, (int file), (file))
FAILING(int, syncfs, -1, (int file), (file))
FAILING(int, sync_file_range, -1, (int file, off64_t from, off64_t length, unsigned flags),
        (file, from, length, flags))
FAILING(int, renameat, -1, (int from, const char *old, int to, const char *new),
        (from, old, to, new))
FAILING(int, renameat2, -1, (int from, const char *old, int to, const char *new, unsigned flags),
        (from, old, to, new, flags))
FAILING(int, unlinkat, -1, (int at, const char *name, int flags), (at, name, flags))
FAILING(int, futimens, -1, (int file, const struct timespec times[2]), (file, times))
FAILING(int, flock, -1, (int file, int operation), (file, operation))
FAILING(int, uname, -1, (struct utsname * name), (name))
FAILING(DIR *, fdopendir, NULL, (int file), (file))
FAILING(struct dirent *, readdir, NULL, (DIR * stream), (stream))

/* Those with a length. The log is not counted: whether it comes to a write depends on what the test's
 * stderr is. */

FAILING(ssize_t, pread, -1, (int file, void *bytes, size_t length, off_t at),
        (file, bytes, failing_part(length), at))
FAILING(ssize_t, pwrite, -1, (int file, const void *bytes, size_t length, off_t at),
        (file, bytes, failing_part(length), at))

ssize_t __real_write(int file, const void *bytes, size_t length);
ssize_t __wrap_write(int file, const void *bytes, size_t length);
ssize_t __wrap_write(int file, const void *bytes, size_t length)
{
    if (file == STDERR_FILENO)
        return __real_write(file, bytes, length);
    return failing_strikes("write", failing.error)
               ? -1
               : __real_write(file, bytes, failing_part(length));
}

ssize_t __real_writev(int file, const struct iovec *parts, int count);
ssize_t __wrap_writev(int file, const struct iovec *parts, int count);
ssize_t __wrap_writev(int file, const struct iovec *parts, int count)
{
    struct iovec first = *parts;

    if (failing_strikes("writev", failing.error))
        return -1;
    first.iov_len = failing_part(first.iov_len);
    return first.iov_len < parts->iov_len ? __real_writev(file, &first, 1)
                                          : __real_writev(file, parts, count);
}

/* The one with a list. */

int __real_openat(int at, const char *name, int flags, mode_t mode);
int __wrap_openat(int at, const char *name, int flags, ...);
int __wrap_openat(int at, const char *name, int flags, ...)
{
    va_list list;
    mode_t mode = 0;

    va_start(list, flags);
    if ((flags & (O_CREAT | __O_TMPFILE)) != 0)
        mode = va_arg(list, mode_t);
    va_end(list);
    return failing_strikes("openat", failing.error) ? -1 : __real_openat(at, name, flags, mode);
}

int __real_open(const char *name, int flags, mode_t mode);
int __wrap_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...)
{
    va_list list;
    mode_t mode = 0;

    va_start(list, flags);
    if ((flags & (O_CREAT | __O_TMPFILE)) != 0)
        mode = va_arg(list, mode_t);
    va_end(list);
    return failing_strikes("open", failing.error) ? -1 : __real_open(name, flags, mode);
}

#endif
