/* The calls that are replaced: each asks strike() first. A call that is missing here is found by
 * test_every_call_can_be_struck. */
#include "strike.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

static void *next(void **real, const char *name)
{
    if (*real == NULL)
        *real = dlsym(RTLD_NEXT, name);
    return *real;
}

#define REAL(symbol)                                                                               \
    ({                                                                                             \
        static void *real_##symbol;                                                                \
        (__typeof__(&symbol))next(&real_##symbol, #symbol);                                        \
    })

#define STRUCK(call, kind)          strike(CALL_##call, kind, __builtin_return_address(0))
#define STRUCK_ON(call, descriptor) strike_on(CALL_##call, descriptor, __builtin_return_address(0))

/* A call that fails without having done anything. */
#define HOOK(type, symbol, call, kind, failed, parameters, arguments)                              \
    type symbol parameters                                                                         \
    {                                                                                              \
        return STRUCK(call, kind) ? (failed) : REAL(symbol) arguments;                             \
    }

/* One that makes a descriptor. */
#define MAKER(symbol, call, kind, made, parameters, arguments)                                     \
    int symbol parameters                                                                          \
    {                                                                                              \
        return STRUCK(call, kind) ? -1 : become(REAL(symbol) arguments, made);                     \
    }

/* Opening. */

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(symbol)                                                                               \
    int symbol(const char *path, int flags, ...)                                                   \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_of(flags, arguments);                                                   \
        va_end(arguments);                                                                         \
        enum kind kind = kind_at(AT_FDCWD, path);                                                  \
        return STRUCK(open, kind) ? -1 : become(REAL(symbol)(path, flags, mode), kind);            \
    }

#define OPENAT(symbol)                                                                             \
    int symbol(int directory, const char *path, int flags, ...)                                    \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_of(flags, arguments);                                                   \
        va_end(arguments);                                                                         \
        enum kind kind = kind_at(directory, path);                                                 \
        return STRUCK(openat, kind) ? -1                                                           \
                                    : become(REAL(symbol)(directory, path, flags, mode), kind);    \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* With _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
MAKER(__open_2, open, kind_at(AT_FDCWD, path), kind_at(AT_FDCWD, path),
      (const char *path, int flags), (path, flags))
MAKER(__openat_2, openat, kind_at(directory, path), kind_at(directory, path),
      (int directory, const char *path, int flags), (directory, path, flags))

HOOK(FILE *, fopen, fopen, kind_at(AT_FDCWD, path), NULL, (const char *path, const char *mode),
     (path, mode))
HOOK(DIR *, fdopendir, fdopendir, kind_of(descriptor), NULL, (int descriptor), (descriptor))

DIR *opendir(const char *path)
{
    enum kind kind = kind_at(AT_FDCWD, path);
    DIR *stream = STRUCK(opendir, kind) ? NULL : REAL(opendir)(path);
    if (stream != NULL)
        become(dirfd(stream), kind);
    return stream;
}

HOOK(struct dirent *, readdir, readdir, kind_of(dirfd(stream)), NULL, (DIR * stream), (stream))
HOOK(struct dirent64 *, readdir64, readdir, kind_of(dirfd(stream)), NULL, (DIR * stream), (stream))

MAKER(dup, dup, kind_of(descriptor), kind_of(descriptor), (int descriptor), (descriptor))
MAKER(dup2, dup2, kind_of(descriptor), kind_of(descriptor), (int descriptor, int to),
      (descriptor, to))
MAKER(inotify_init1, inotify_init1, KIND_EVENT, KIND_EVENT, (int flags), (flags))
MAKER(epoll_create1, epoll_create1, KIND_EVENT, KIND_EVENT, (int flags), (flags))
MAKER(eventfd, eventfd, KIND_EVENT, KIND_EVENT, (unsigned value, int flags), (value, flags))
MAKER(socket, socket, KIND_SOCKET, KIND_SOCKET, (int domain, int type, int protocol),
      (domain, type, protocol))
MAKER(accept4, accept4, KIND_SOCKET, KIND_SOCKET,
      (int descriptor, __SOCKADDR_ARG peer, socklen_t *length, int flags),
      (descriptor, peer, length, flags))

static int become_both(int result, const int descriptors[2], enum kind kind)
{
    for (int i = 0; result == 0 && i < 2; i++)
        become(descriptors[i], kind);
    return result;
}

int pipe2(int ends[2], int flags)
{
    return STRUCK(pipe2, KIND_EVENT) ? -1 : become_both(REAL(pipe2)(ends, flags), ends, KIND_EVENT);
}

int socketpair(int domain, int type, int protocol, int ends[2])
{
    return STRUCK(socketpair, KIND_EVENT)
               ? -1
               : become_both(REAL(socketpair)(domain, type, protocol, ends), ends, KIND_EVENT);
}

/* What close reports, it reports of a descriptor that is closed (close(2), "Dealing with error
 * returns"). */
int close(int descriptor)
{
    bool struck = STRUCK(close, kind_of(descriptor));
    int error = errno;
    become(descriptor, KIND_OTHER);
    if (!struck)
        return REAL(close)(descriptor);
    REAL(close)(descriptor);
    errno = error;
    return -1;
}

/* Bytes, of which half may be enough. */

static size_t half(size_t length)
{
    return length > 1 ? length / 2 : length;
}

#define BYTES(type, symbol, call, parameters, whole, part)                                         \
    type symbol parameters                                                                         \
    {                                                                                              \
        if (!STRUCK_ON(call, descriptor))                                                          \
            return REAL(symbol) whole;                                                             \
        return errno == SHORT ? REAL(symbol) part : -1;                                            \
    }

BYTES(ssize_t, read, read, (int descriptor, void *bytes, size_t length),
      (descriptor, bytes, length), (descriptor, bytes, half(length)))
BYTES(ssize_t, write, write, (int descriptor, const void *bytes, size_t length),
      (descriptor, bytes, length), (descriptor, bytes, half(length)))
BYTES(ssize_t, pread, pread, (int descriptor, void *bytes, size_t length, off_t at),
      (descriptor, bytes, length, at), (descriptor, bytes, half(length), at))
BYTES(ssize_t, pread64, pread, (int descriptor, void *bytes, size_t length, off64_t at),
      (descriptor, bytes, length, at), (descriptor, bytes, half(length), at))
BYTES(ssize_t, pwrite, pwrite, (int descriptor, const void *bytes, size_t length, off_t at),
      (descriptor, bytes, length, at), (descriptor, bytes, half(length), at))
BYTES(ssize_t, pwrite64, pwrite, (int descriptor, const void *bytes, size_t length, off64_t at),
      (descriptor, bytes, length, at), (descriptor, bytes, half(length), at))
BYTES(ssize_t, recv, recv, (int descriptor, void *bytes, size_t length, int flags),
      (descriptor, bytes, length, flags), (descriptor, bytes, half(length), flags))
BYTES(ssize_t, send, send, (int descriptor, const void *bytes, size_t length, int flags),
      (descriptor, bytes, length, flags), (descriptor, bytes, half(length), flags))

/* Half of the first part that has any. */
static struct iovec part_of(const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len > 0)
            return (struct iovec){parts[i].iov_base, half(parts[i].iov_len)};
    return (struct iovec){0};
}

#define PARTS(symbol, parameters, whole, part)                                                     \
    ssize_t symbol parameters                                                                      \
    {                                                                                              \
        if (!STRUCK_ON(symbol, descriptor))                                                        \
            return REAL(symbol) whole;                                                             \
        if (errno != SHORT)                                                                        \
            return -1;                                                                             \
        struct iovec first = part_of(parts, count);                                                \
        return REAL(symbol) part;                                                                  \
    }

PARTS(readv, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count),
      (descriptor, &first, 1))
PARTS(writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count),
      (descriptor, &first, 1))
PARTS(pwritev2, (int descriptor, const struct iovec *parts, int count, off_t at, int flags),
      (descriptor, parts, count, at, flags), (descriptor, &first, 1, at, flags))

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    if (!STRUCK_ON(sendmsg, descriptor))
        return REAL(sendmsg)(descriptor, message, flags);
    if (errno != SHORT)
        return -1;
    struct iovec first = part_of(message->msg_iov, (int)message->msg_iovlen);
    struct msghdr less = *message;
    less.msg_iov = &first;
    less.msg_iovlen = 1;
    return REAL(sendmsg)(descriptor, &less, flags);
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags)
{
    return STRUCK_ON(recvmsg, descriptor) ? -1 : REAL(recvmsg)(descriptor, message, flags);
}

/* All that only succeeds or fails: on a descriptor, or by a name. */

#define ON(symbol, call, parameters, arguments)                                                    \
    HOOK(int, symbol, call, kind_of(descriptor), -1, parameters, arguments)
#define BY(symbol, call, parameters, arguments)                                                    \
    HOOK(int, symbol, call, kind_at(AT_FDCWD, path), -1, parameters, arguments)
#define AT(symbol, call, parameters, arguments)                                                    \
    HOOK(int, symbol, call, kind_at(descriptor, path), -1, parameters, arguments)

ON(fsync, fsync, (int descriptor), (descriptor))
ON(fdatasync, fsync, (int descriptor), (descriptor))
ON(syncfs, syncfs, (int descriptor), (descriptor))
ON(sync_file_range, sync_file_range,
   (int descriptor, off64_t offset, off64_t length, unsigned flags),
   (descriptor, offset, length, flags))
ON(ftruncate, ftruncate, (int descriptor, off_t length), (descriptor, length))
ON(ftruncate64, ftruncate, (int descriptor, off64_t length), (descriptor, length))
ON(fstat, fstat, (int descriptor, struct stat *status), (descriptor, status))
ON(fstat64, fstat, (int descriptor, struct stat64 *status), (descriptor, status))
ON(fstatfs, fstatfs, (int descriptor, struct statfs *status), (descriptor, status))
ON(fstatfs64, fstatfs, (int descriptor, struct statfs64 *status), (descriptor, status))
ON(fstatvfs, fstatvfs, (int descriptor, struct statvfs *status), (descriptor, status))
ON(futimens, futimens, (int descriptor, const struct timespec times[2]), (descriptor, times))
ON(flock, flock, (int descriptor, int operation), (descriptor, operation))
ON(inotify_add_watch, inotify_add_watch, (int descriptor, const char *path, uint32_t mask),
   (descriptor, path, mask))
ON(connect, connect, (int descriptor, __CONST_SOCKADDR_ARG address, socklen_t length),
   (descriptor, address, length))
ON(bind, bind, (int descriptor, __CONST_SOCKADDR_ARG address, socklen_t length),
   (descriptor, address, length))
ON(listen, listen, (int descriptor, int backlog), (descriptor, backlog))
ON(getsockname, getsockname, (int descriptor, __SOCKADDR_ARG address, socklen_t *length),
   (descriptor, address, length))
ON(getpeername, getpeername, (int descriptor, __SOCKADDR_ARG address, socklen_t *length),
   (descriptor, address, length))
ON(getsockopt, getsockopt, (int descriptor, int level, int name, void *value, socklen_t *length),
   (descriptor, level, name, value, length))
ON(setsockopt, setsockopt,
   (int descriptor, int level, int name, const void *value, socklen_t length),
   (descriptor, level, name, value, length))
ON(shutdown, shutdown, (int descriptor, int how), (descriptor, how))
ON(epoll_ctl, epoll_ctl, (int descriptor, int operation, int of, struct epoll_event *event),
   (descriptor, operation, of, event))
ON(epoll_pwait, epoll_pwait,
   (int descriptor, struct epoll_event *events, int most, int timeout, const sigset_t *mask),
   (descriptor, events, most, timeout, mask))

BY(rename, rename, (const char *from, const char *path), (from, path))
BY(unlink, unlink, (const char *path), (path))
BY(link, link, (const char *path, const char *to), (path, to))
BY(stat, stat, (const char *path, struct stat *status), (path, status))
BY(stat64, stat, (const char *path, struct stat64 *status), (path, status))
BY(lstat, lstat, (const char *path, struct stat *status), (path, status))
BY(lstat64, lstat, (const char *path, struct stat64 *status), (path, status))
BY(statfs, statfs, (const char *path, struct statfs *status), (path, status))
BY(statfs64, statfs, (const char *path, struct statfs64 *status), (path, status))
BY(mkdir, mkdir, (const char *path, mode_t mode), (path, mode))
BY(access, access, (const char *path, int how), (path, how))

AT(renameat, renameat, (int from, const char *old, int descriptor, const char *path),
   (from, old, descriptor, path))
AT(renameat2, renameat2,
   (int from, const char *old, int descriptor, const char *path, unsigned flags),
   (from, old, descriptor, path, flags))
AT(unlinkat, unlinkat, (int descriptor, const char *path, int flags), (descriptor, path, flags))
AT(linkat, linkat, (int from, const char *old, int descriptor, const char *path, int flags),
   (from, old, descriptor, path, flags))
AT(fstatat, fstatat, (int descriptor, const char *path, struct stat *status, int flags),
   (descriptor, path, status, flags))
AT(fstatat64, fstatat, (int descriptor, const char *path, struct stat64 *status, int flags),
   (descriptor, path, status, flags))
AT(statx, statx, (int descriptor, const char *path, int flags, unsigned mask, struct statx *status),
   (descriptor, path, flags, mask, status))
AT(mkdirat, mkdirat, (int descriptor, const char *path, mode_t mode), (descriptor, path, mode))
AT(fchmodat, fchmodat, (int descriptor, const char *path, mode_t mode, int flags),
   (descriptor, path, mode, flags))
AT(utimensat, utimensat,
   (int descriptor, const char *path, const struct timespec times[2], int flags),
   (descriptor, path, times, flags))
AT(faccessat, faccessat, (int descriptor, const char *path, int how, int flags),
   (descriptor, path, how, flags))

HOOK(int, poll, poll, KIND_OTHER, -1, (struct pollfd * polled, nfds_t count, int timeout),
     (polled, count, timeout))

/* Its errors are numbers of its own, below 0. */
HOOK(int, getaddrinfo, getaddrinfo, KIND_OTHER, errno,
     (const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found),
     (name, service, hints, found))
