/* Preloaded into a program under test: makes the system calls on its spool fail, be late, be cut
 * short, or just be seen.
 *
 * FAULT_UNDER is the directory that is meant; what lies outside it is left alone. FAULT_PLAN is a
 * file, read at every call so that a test can change its mind, with `<call> <action> <number>` and
 * NULs up to PLAN_SIZE bytes:
 *
 *     fsync error 5       it fails with errno 5
 *     syncfs delay 500    it is done 500 ms later
 *     write short 0       half of the bytes are written
 *
 * FAULT_TRACE is a file that gets a line for every call that succeeded, one for every write to a
 * socket, so that it has the order in which a message became durable and was acknowledged, and
 * `missed` for every look for a file that is not there.
 *
 * Both are opened before the program is confined, and nothing is asked for later that a confined
 * program needs to be given. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum action { ACTION_NONE, ACTION_FAILED, ACTION_SHORT };

enum { PLAN_SIZE = 64, DESCRIPTORS = 1 << 16 };

static int plan_file = -1, trace_file = -1;
static bool spool_descriptors[DESCRIPTORS]; /* open, on something under the spool */

/* Our own files are reached by the bare system calls, not by what we replace. Not below 3, where a
 * program may have been given nothing on purpose. */
static int own_file(const char *variable, int flags)
{
    const char *path = getenv(variable);
    int first = path ? (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC) : -1;
    int descriptor = first >= 0 ? fcntl(first, F_DUPFD_CLOEXEC, 3) : -1;
    if (first >= 0)
        syscall(SYS_close, first);
    return descriptor;
}

__attribute__((constructor)) static void begin(void)
{
    plan_file = own_file("FAULT_PLAN", O_RDONLY);
    trace_file = own_file("FAULT_TRACE", O_WRONLY | O_APPEND);
}

static void trace(const char *call)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s\n", call);
    syscall(SYS_write, trace_file, line, (size_t)length);
}

/* The plan, read until it comes twice the same, for the test may be writing it. */
static bool plan_read(const char *call, char action[static 16], long *number)
{
    char text[PLAN_SIZE + 1] = "", again[PLAN_SIZE], name[32];
    do {
        if (syscall(SYS_pread64, plan_file, text, PLAN_SIZE, 0) != PLAN_SIZE ||
            syscall(SYS_pread64, plan_file, again, PLAN_SIZE, 0) != PLAN_SIZE)
            return false;
    } while (memcmp(text, again, PLAN_SIZE) != 0);
    return sscanf(text, "%31s %15s %ld", name, action, number) == 3 && strcmp(name, call) == 0;
}

static bool under_spool(int descriptor)
{
    return descriptor >= 0 && descriptor < DESCRIPTORS && spool_descriptors[descriptor];
}

/* What is planned for a call, delays done with. FAILED: errno is set. */
static enum action apply(const char *call)
{
    char action[16];
    long number;
    if (!plan_read(call, action, &number))
        return ACTION_NONE;
    if (strcmp(action, "error") == 0) {
        errno = (int)number;
        return ACTION_FAILED;
    }
    if (strcmp(action, "delay") == 0)
        nanosleep(&(struct timespec){number / 1000, number % 1000 * 1000000}, NULL);
    return strcmp(action, "short") == 0 ? ACTION_SHORT : ACTION_NONE;
}

static int traced(const char *call, int result)
{
    int error = errno;
    if (result >= 0)
        trace(call);
    errno = error;
    return result;
}

#define ON_DESCRIPTOR(call, descriptor, real)                                                      \
    do {                                                                                           \
        if (!under_spool(descriptor))                                                              \
            return real;                                                                           \
        if (apply(call) == ACTION_FAILED)                                                          \
            return -1;                                                                             \
        return traced(call, real);                                                                 \
    } while (0)

int fsync(int descriptor)
{
    ON_DESCRIPTOR("fsync", descriptor, REAL(fsync)(descriptor));
}

int fdatasync(int descriptor)
{
    ON_DESCRIPTOR("fsync", descriptor, REAL(fdatasync)(descriptor));
}

int syncfs(int descriptor)
{
    ON_DESCRIPTOR("syncfs", descriptor, REAL(syncfs)(descriptor));
}

int sync_file_range(int descriptor, off64_t offset, off64_t length, unsigned flags)
{
    ON_DESCRIPTOR("sync_file_range", descriptor,
                  REAL(sync_file_range)(descriptor, offset, length, flags));
}

int renameat(int from, const char *old, int to, const char *new)
{
    ON_DESCRIPTOR("rename", to, REAL(renameat)(from, old, to, new));
}

int unlinkat(int directory, const char *name, int flags)
{
    ON_DESCRIPTOR("unlink", directory, REAL(unlinkat)(directory, name, flags));
}

/* Writing: to the spool by plan, to a socket only noted. */

static bool is_socket(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
}

static ssize_t write_parts(int descriptor, const struct iovec *parts, int count)
{
    if (is_socket(descriptor))
        trace("reply");
    else if (under_spool(descriptor)) {
        enum action action = apply("write");
        if (action == ACTION_FAILED)
            return -1;
        for (int i = 0; action == ACTION_SHORT && i < count; i++) {
            if (parts[i].iov_len > 0)
                return REAL(write)(descriptor, parts[i].iov_base, (parts[i].iov_len + 1) / 2);
        }
    }
    return REAL(writev)(descriptor, parts, count);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return write_parts(descriptor, parts, count);
}

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    return write_parts(descriptor, &(struct iovec){(void *)bytes, length}, 1);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset)
{
    if (under_spool(descriptor) && apply("pwrite") == ACTION_FAILED)
        return -1;
    return REAL(pwrite)(descriptor, bytes, length, offset);
}

ssize_t send(int descriptor, const void *bytes, size_t length, int flags)
{
    trace("reply");
    return REAL(send)(descriptor, bytes, length, flags);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    trace("reply");
    return REAL(sendmsg)(descriptor, message, flags);
}

int accept4(int descriptor, __SOCKADDR_ARG peer, socklen_t *length, int flags)
{
    if (apply("accept4") == ACTION_FAILED)
        return -1;
    return REAL(accept4)(descriptor, peer, length, flags);
}

/* Making files: the directory's descriptor tells whether it is meant, and its own may be asked for
 * later. */

/* Where a descriptor leads may be asked only until the program is confined, by when it has opened all
 * of its directories: of what it opens in them, they know. */
static bool opened_under_spool(int descriptor, int directory)
{
    char link[64], path[4096];
    const char *under = getenv("FAULT_UNDER");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (under == NULL || length < 0)
        return under_spool(directory);
    path[length] = '\0';
    return strncmp(path, under, strlen(under)) == 0;
}

int openat(int directory, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
        if (under_spool(directory) && apply("create") == ACTION_FAILED)
            return -1;
    }
    int descriptor = (int)syscall(SYS_openat, directory, path, flags, mode);
    int error = errno;
    if (descriptor >= 0 && descriptor < DESCRIPTORS)
        spool_descriptors[descriptor] = opened_under_spool(descriptor, directory);
    if (descriptor < 0 && error == ENOENT && under_spool(directory))
        trace("missed");
    errno = error;
    return descriptor;
}

int close(int descriptor)
{
    if (under_spool(descriptor))
        spool_descriptors[descriptor] = false;
    return REAL(close)(descriptor);
}

/* OpenSSL has no memory for one more session: what is planned for it has no errno. */
void *SSL_new(void *context);
void *SSL_new(void *context)
{
    return apply("SSL_new") == ACTION_FAILED ? NULL : REAL(SSL_new)(context);
}
