/* Preloaded into a program whose disk's power will be cut: notes what it said, and when, by the
 * clock of the disk (recorder.c), just before it is said. The clock of who hears it comes too late:
 * in between the disk may have gone on.
 *
 *     WITNESS_POSITION    the recorder's file with the number of records so far
 *     WITNESS_NOTES       gets a line for each: what, the message's id, the position
 *     WITNESS_SYNCFS=0    the spool's file system is one that nobody knows
 *
 * What: `acknowledged` (smtpd, on a socket), `stored` (storer, in its log, behind the COMMIT and
 * before the file is touched), `relayed` (relay, in its log, when that is recorded).
 *
 * Both files are opened before the program is confined; nothing is asked for later. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { ID_LENGTH = 36, SAID_MAX = 8192 };

static const struct saying {
    const char *words; /* the id follows */
    const char *what;
} sayings[] = {
    {"250 2.0.0 Ok: queued as ", "acknowledged"},
    {"event=stored id=", "stored"},
    {"event=relayed id=", "relayed"},
};

static int notes = -1;
static const volatile uint64_t *position;
static bool syncfs_hidden;

/* Not below 3, where a program may have been given nothing on purpose. */
static int own_file(const char *variable, int flags)
{
    const char *path = getenv(variable);
    int first = path ? (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC) : -1;
    int descriptor = first >= 0 ? fcntl(first, F_DUPFD_CLOEXEC, 3) : -1;
    if (first >= 0)
        syscall(SYS_close, first);
    return descriptor;
}

/* Without its files it notes nothing, and a test that finds nothing noted fails. */
__attribute__((constructor)) static void begin(void)
{
    const char *syncfs = getenv("WITNESS_SYNCFS");
    int counter = own_file("WITNESS_POSITION", O_RDONLY);
    syncfs_hidden = syncfs != NULL && strcmp(syncfs, "0") == 0;
    if (counter < 0)
        return;
    void *mapped = mmap(NULL, sizeof *position, PROT_READ, MAP_SHARED, counter, 0);
    syscall(SYS_close, counter);
    if (mapped == MAP_FAILED)
        return;
    position = mapped;
    notes = own_file("WITNESS_NOTES", O_WRONLY | O_APPEND);
}

static void note(const char *what, const char *id, uint64_t when)
{
    char line[128];
    int length = snprintf(line, sizeof line, "%s %.*s %llu\n", what, ID_LENGTH, id,
                          (unsigned long long)when);
    syscall(SYS_write, notes, line, (size_t)length);
}

/* What is said in one call is at most a few lines; a program under test says no more at once. */
static void listen_to(const struct iovec *parts, int count)
{
    char said[SAID_MAX + 1];
    size_t length = 0;
    if (notes < 0)
        return;
    uint64_t when = *position;
    for (int i = 0; i < count && length < SAID_MAX; i++) {
        size_t n = parts[i].iov_len < SAID_MAX - length ? parts[i].iov_len : SAID_MAX - length;
        memcpy(said + length, parts[i].iov_base, n);
        length += n;
    }
    said[length] = '\0';
    for (size_t i = 0; i < sizeof sayings / sizeof *sayings; i++) {
        size_t words = strlen(sayings[i].words);
        const char *at = said;
        while ((at = strstr(at, sayings[i].words)) != NULL) {
            at += words;
            if (strnlen(at, ID_LENGTH) == ID_LENGTH)
                note(sayings[i].what, at, when);
        }
    }
}

/* Only of what is a reply or a log: what goes into a file may hold the same words. */
static bool is_heard(int descriptor)
{
    struct stat status;
    return descriptor == STDERR_FILENO ||
           (fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode));
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    if (is_heard(descriptor))
        listen_to(parts, count);
    return REAL(writev)(descriptor, parts, count);
}

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    if (is_heard(descriptor))
        listen_to(&(struct iovec){(void *)(uintptr_t)bytes, length}, 1);
    return REAL(write)(descriptor, bytes, length);
}

ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (is_heard(descriptor))
        listen_to(parts, count);
    return REAL(pwritev2)(descriptor, parts, count, offset, flags);
}

ssize_t send(int descriptor, const void *bytes, size_t length, int flags)
{
    listen_to(&(struct iovec){(void *)(uintptr_t)bytes, length}, 1);
    return REAL(send)(descriptor, bytes, length, flags);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    listen_to(message->msg_iov, (int)message->msg_iovlen);
    return REAL(sendmsg)(descriptor, message, flags);
}

int fstatfs(int descriptor, struct statfs *file_system)
{
    int result = REAL(fstatfs)(descriptor, file_system);
    if (result == 0 && syncfs_hidden)
        file_system->f_type = 0;
    return result;
}
