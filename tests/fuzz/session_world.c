/* The world around a server: see the header. */
#include "session_world.h"

#include "common/log.h"
#include "smtpd/tls.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { WORK_MAX = 64, CLOCK_STARTS_MS = 1000 * 1000 };

static uint64_t now;
static bool inside;
/* Calls until one fails; 0: none will. */
static unsigned until_fault[WORLD_FAULT_COUNT], until_starved;

static struct {
    uv_work_t *request;
    uv_work_cb work_cb;
    uv_after_work_cb after_cb;
} work[WORK_MAX];
static size_t work_count;

void world_reset(void)
{
    LAW(work_count == 0 && !inside);
    world_heal();
    now = CLOCK_STARTS_MS;
}

void world_enter(void)
{
    inside = true;
}

void world_leave(void)
{
    inside = false;
}

void world_pass(uint64_t milliseconds)
{
    now += milliseconds;
}

void world_fail(enum world_fault fault, unsigned count)
{
    until_fault[fault] = count + 1;
}

void world_starve(unsigned count)
{
    until_starved = count + 1;
}

void world_heal(void)
{
    memset(until_fault, 0, sizeof until_fault);
    until_starved = 0;
}

/* The clock. */

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, time);
    *time =
        (struct timespec){.tv_sec = (time_t)(now / 1000), .tv_nsec = (long)(now % 1000) * 1000000};
    return 0;
}

/* The thread pool. */

int uv_queue_work(uv_loop_t *loop, uv_work_t *request, uv_work_cb work_cb,
                  uv_after_work_cb after_work_cb)
{
    LAW(work_count < WORK_MAX);
    request->loop = loop;
    work[work_count].request = request;
    work[work_count].work_cb = work_cb;
    work[work_count].after_cb = after_work_cb;
    work_count++;
    return 0;
}

bool world_work(unsigned which)
{
    uv_work_t *request;
    uv_work_cb work_cb;
    uv_after_work_cb after_cb;
    size_t at;

    if (work_count == 0)
        return false;
    at = which % work_count;
    request = work[at].request;
    work_cb = work[at].work_cb;
    after_cb = work[at].after_cb;
    memmove(&work[at], &work[at + 1], (--work_count - at) * sizeof work[0]);
    world_enter();
    work_cb(request);
    after_cb(request, 0);
    world_leave();
    return true;
}

/* The disk. It is memory, for which a flush has no meaning. */

/* Counts a call; true when it is to fail. */
static bool is_due(unsigned *until, int error)
{
    if (!inside || *until == 0)
        return false;
    errno = error;
    return --*until == 0;
}

static bool fails(enum world_fault fault)
{
    return is_due(&until_fault[fault], ENOSPC);
}

int fsync(int descriptor)
{
    (void)descriptor;
    return fails(WORLD_SYNC_FAILS) ? -1 : 0;
}

int syncfs(int descriptor)
{
    return fsync(descriptor);
}

int renameat(int old_directory, const char *old_name, int new_directory, const char *new_name)
{
    if (fails(WORLD_RENAME_FAILS))
        return -1;
    return (int)syscall(SYS_renameat2, old_directory, old_name, new_directory, new_name, 0);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return fails(WORLD_WRITE_FAILS) ? -1 : syscall(SYS_writev, descriptor, parts, count);
}

/* The log: a line each time, of printable ASCII, not too long. */
ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags)
{
    const char *line = parts->iov_base;
    size_t length = parts->iov_len;

    (void)offset, (void)flags;
    LAW(descriptor == STDERR_FILENO && count == 1);
    LAW(length > 1 && length <= LOG_LINE_MAX && line[length - 1] == '\n');
    for (size_t i = 0; i < length - 1; i++)
        LAW(line[i] >= ' ' && line[i] <= '~');
    LAW(strncmp(line, "level=", 6) == 0);
    if (getenv("FUZZ_LOG") != NULL)
        fwrite(line, 1, length, stderr);
    return (ssize_t)length;
}

/* Memory. */

static bool starved(void)
{
    return is_due(&until_starved, ENOMEM);
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    return starved() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return starved() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return starved() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return starved() ? NULL : __real_strdup(text);
}

/* Certificates. */

struct tls_context *__real_tls_context_load(const char *certificate, const char *key,
                                            char reason[static TLS_REASON_SIZE]);
void __real_tls_context_free(struct tls_context *context);
struct tls_context *__wrap_tls_context_load(const char *certificate, const char *key,
                                            char reason[static TLS_REASON_SIZE]);
void __wrap_tls_context_free(struct tls_context *context);

/* What a server starts with; NULL before the first. */
static struct tls_context *first_context;

struct tls_context *__wrap_tls_context_load(const char *certificate, const char *key,
                                            char reason[static TLS_REASON_SIZE])
{
    if (inside)
        return __real_tls_context_load(certificate, key, reason);
    if (first_context == NULL)
        first_context = __real_tls_context_load(certificate, key, reason);
    reason[0] = '\0';
    return first_context;
}

void __wrap_tls_context_free(struct tls_context *context)
{
    if (context != first_context)
        __real_tls_context_free(context);
}
