/* The two halves of the library that strikes: the plan (strike.c), and the calls that are replaced
 * (strike_calls.c). */
#ifndef TORTURE_STRIKE_H
#define TORTURE_STRIKE_H

#include <stdbool.h>

/* The program sees the calls, and nothing else of this. */
#pragma GCC visibility push(hidden)

/* What each call is called in a plan; fdatasync is fsync, and so on. */
#define CALLS(X)                                                                                   \
    X(open), X(openat), X(fopen), X(opendir), X(fdopendir), X(readdir), X(read), X(readv),         \
        X(pread), X(write), X(writev), X(pwrite), X(pwritev2), X(send), X(sendmsg), X(recv),       \
        X(recvmsg), X(fsync), X(syncfs), X(sync_file_range), X(ftruncate), X(rename), X(renameat), \
        X(renameat2), X(link), X(linkat), X(unlink), X(unlinkat), X(close), X(fstat), X(stat),     \
        X(lstat), X(fstatat), X(statx), X(statfs), X(fstatfs), X(fstatvfs), X(mkdir), X(mkdirat),  \
        X(fchmodat), X(futimens), X(utimensat), X(flock), X(access), X(faccessat), X(dup),         \
        X(dup2), X(inotify_init1), X(inotify_add_watch), X(accept4), X(socket), X(socketpair),     \
        X(pipe2), X(connect), X(bind), X(listen), X(getsockname), X(getpeername), X(getsockopt),   \
        X(setsockopt), X(shutdown), X(getaddrinfo), X(poll), X(epoll_create1), X(epoll_ctl),       \
        X(epoll_pwait), X(eventfd)

#define AS_ENUM(name) CALL_##name

enum call { CALLS(AS_ENUM), CALL_COUNT };

/* What a call is made on, for which errors are possible depends on it. */
enum kind { KIND_OTHER, KIND_SPOOL, KIND_SOCKET, KIND_EVENT };

/* Instead of an error: half is to be done. */
enum { SHORT = -1 };

/* Counts a call from that return address, and says whether it is struck: errno is set then. */
bool strike(enum call call, enum kind kind, const void *from);

/* The same for bytes on a descriptor. Who is told that a connection is broken finds it so from then
 * on: libpq drops what it could not send and waits for the end, which has to come. */
bool strike_on(enum call call, int descriptor, const void *from);

/* What a descriptor, or a path from a directory, leads to. */
enum kind kind_of(int descriptor);
enum kind kind_at(int directory, const char *path);

/* Notes what a new descriptor is, where there is one; returns it. errno stays. */
int become(int descriptor, enum kind kind);

#pragma GCC visibility pop

#endif
