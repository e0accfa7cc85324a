/* Preloaded into every program of a soak, PostgreSQL too: a clock that runs faster, so that days go
 * by in minutes, with their partitions.
 *
 * From the moment CLOCK_FROM on (nanoseconds since 1970, true time) the time of day is CLOCK_TO and
 * goes CLOCK_RATE times as fast. All is reckoned from what the kernel says, with nothing to be
 * shared and nothing to be opened, so that all programs agree to the nanosecond whenever they were
 * started, and a confined one needs no leave for it. The monotonic clock, by which timers run, is
 * left alone.
 *
 * libfaketime can do the first, but takes the times of files as they are. Here the kernel, which
 * writes those, goes by the true time, and what is read of them must fit: a file that has lain in
 * tmp/ for a minute is to be found as old as the day says. So times of files are reckoned in the
 * same way, and back where one is set; that needs a clock without jumps. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { BILLION = 1000000000 };

static int64_t from = INT64_MAX, to, rate = 1;

static int64_t number(const char *variable)
{
    const char *text = getenv(variable);
    return text ? strtoll(text, NULL, 10) : 0;
}

/* The file at whose times the loader may already have looked is older than CLOCK_FROM. */
__attribute__((constructor)) static void begin(void)
{
    to = number("CLOCK_TO");
    rate = number("CLOCK_RATE");
    from = number("CLOCK_FROM");
}

static int64_t whole(const struct timespec *time)
{
    return (int64_t)time->tv_sec * BILLION + time->tv_nsec;
}

static struct timespec parts(int64_t time)
{
    return (struct timespec){.tv_sec = time / BILLION, .tv_nsec = time % BILLION};
}

static void quicken(struct timespec *time)
{
    int64_t passed = whole(time) - from;
    if (passed > 0)
        *time = parts(to + passed * rate);
}

static void slacken(struct timespec *time)
{
    int64_t passed = whole(time) - to;
    if (passed > 0)
        *time = parts(from + passed / rate);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        quicken(time);
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone; /* obsolete, and nobody's */
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    *time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

static int seen(int result, struct stat *status)
{
    if (result == 0) {
        quicken(&status->st_atim);
        quicken(&status->st_mtim);
        quicken(&status->st_ctim);
    }
    return result;
}

int stat(const char *restrict path, struct stat *restrict status)
{
    return seen(REAL(stat)(path, status), status);
}

int lstat(const char *restrict path, struct stat *restrict status)
{
    return seen(REAL(lstat)(path, status), status);
}

int fstat(int descriptor, struct stat *status)
{
    return seen(REAL(fstat)(descriptor, status), status);
}

int fstatat(int directory, const char *restrict path, struct stat *restrict status, int flags)
{
    return seen(REAL(fstatat)(directory, path, status, flags), status);
}

/* The only way in which our programs set a time. */
int futimens(int descriptor, const struct timespec times[2])
{
    struct timespec real[2];
    for (int i = 0; times && i < 2; i++) {
        real[i] = times[i];
        if (real[i].tv_nsec != UTIME_NOW && real[i].tv_nsec != UTIME_OMIT)
            slacken(&real[i]);
    }
    return REAL(futimens)(descriptor, times ? real : NULL);
}
