/* Children that are confined, and the files that they are confined to, for unit tests of confinement. */
#ifndef TESTS_UNIT_CONFINED_H
#define TESTS_UNIT_CONFINED_H

#include "smtpd/confine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/system/attempts.h"

#include <ftw.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <sysexits.h>

/* The files of a test: a spool, a directory for metrics, one for lists, and one that is nobody's. */

static char base[PATH_MAX / 2];
static struct spool spool;
static struct confine_plan plan;
static char metrics[PATH_MAX];

/* A path below the base, until four more have been asked for. */
static inline const char *at(const char *name)
{
    static _Thread_local char paths[4][PATH_MAX];
    static _Thread_local unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, PATH_MAX, "%s/%s", base, name);
    return path;
}

static inline void make_directory(const char *name)
{
    assert_int_equal(mkdir(at(name), 0755), 0);
}

static inline void make_file(const char *name)
{
    int file = open(at(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    assert_true(file >= 0);
    assert_int_equal(write(file, "text\n", 5), 5);
    close(file);
}

/* Makes a link, or turns one that is there, as whoever renews does it: there is one at any time. */
static inline void make_link(const char *name, const char *target)
{
    assert_int_equal(symlink(target, at("turning")), 0);
    assert_int_equal(rename(at("turning"), at(name)), 0);
}

static inline int begin(void **state)
{
    (void)state;
    strcpy(base, "/var/tmp/mayfly-unit-XXXXXX");
    assert_non_null(mkdtemp(base));
    assert_int_equal(spool_open(&spool, at("spool")), 0);
    make_directory("metrics");
    make_directory("lists");
    make_directory("outside");
    make_file("lists/domains");
    make_file("outside/secret");
    make_file("spool/store/tmp/there");
    make_file("spool/store/new/there");
    snprintf(metrics, sizeof metrics, "%s", at("metrics/metrics.prom"));
    place = (struct attempt_place){.tmp = spool.directories[QUEUE_STORE][QUEUE_TMP],
                                   .new = spool.directories[QUEUE_STORE][QUEUE_NEW],
                                   .failed = spool.directories[QUEUE_STORE][QUEUE_FAILED]};
    snprintf(place.outside, sizeof place.outside, "%s", at("outside"));
    snprintf(place.list, sizeof place.list, "%s", at("lists/domains"));
    plan = (struct confine_plan){.how = CONFINE_REQUIRE,
                                 .spool = &spool,
                                 .metrics_file = metrics,
                                 .files = {place.list},
                                 .files_count = 1};
    return 0;
}

static inline int remove_cb(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline int end(void **state)
{
    (void)state;
    spool_close(&spool);
    return nftw(base, remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

/* Children. They report in memory that they share with us, for an assertion of theirs would not
 * reach the framework. */

enum { LOG_SIZE = 4096, REPORT_ERRORS = 256 };

static struct report {
    int code;                     /* of confine_apply */
    char log[LOG_SIZE];           /* what it said */
    int errors[REPORT_ERRORS][2]; /* of what was tried, on each of two threads */
} * report;

static int to_child[2], from_child[2];

static inline void say(int pipe)
{
    if (write(pipe, "x", 1) != 1)
        abort();
}

static inline void hear(int pipe)
{
    char byte;

    if (read(pipe, &byte, 1) != 1)
        abort();
}

static inline void confine(void)
{
    int log[2];
    ssize_t length;

    if (pipe(log) < 0 || dup2(log[1], STDERR_FILENO) < 0)
        abort();
    report->code = confine_apply(&plan);
    say(log[1]); /* so that reading does not wait when nothing was logged */
    length = read(log[0], report->log, LOG_SIZE);
    if (length < 1)
        abort();
    report->log[length - 1] = '\0';
}

/* In a child: a pause, in which the parent does something. */
static inline void let_parent(void)
{
    say(from_child[1]);
    hear(to_child[0]);
}

/* Runs `child` in a process of its own, and `meanwhile` (or NULL) here during its let_parent. Returns
 * its status. */
static inline int run(void (*child)(void), void (*meanwhile)(pid_t child))
{
    int status;
    pid_t process;

    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 2)
        skip(); /* nothing can be tried here */
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(from_child), 0);
    place.pipe = to_child[0];
    if (report == NULL)
        report =
            mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(report, MAP_FAILED);
    memset(report, 0, sizeof *report);
    fflush(NULL);
    process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        close(from_child[0]);
        child();
        _exit(0);
    }
    close(from_child[1]);
    if (meanwhile != NULL) {
        hear(from_child[0]);
        meanwhile(process);
        say(to_child[1]);
    }
    assert_int_equal(waitpid(process, &status, 0), process);
    close(from_child[0]);
    close(to_child[0]);
    close(to_child[1]);
    return status;
}

/* Two things that must go on. */

/* A message's whole way: written, made durable, moved, the journal checked, taken back. */
static inline int message(void)
{
    int file = openat(place.tmp, "id", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640), error;

    if (file < 0)
        return errno;
    error = write(file, "text", 4) != 4 || sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE) < 0 ||
                    fsync(file) < 0 || renameat(place.tmp, "id", place.new, "id") < 0 ||
                    syncfs(spool.root) < 0 || fsync(place.new) < 0
                ? errno
                : 0;
    close(file);
    if (error == 0)
        error = attempt_open(place.tmp, ".", O_TMPFILE | O_WRONLY);
    return error != 0 ? error : attempt_result(unlinkat(place.new, "id", 0));
}

static inline int reading_a_list(void)
{
    char text[8] = "";
    FILE *file = fopen(place.list, "re");

    if (file == NULL)
        return errno;
    if (fgets(text, sizeof text, file) == NULL)
        strcpy(text, "?");
    fclose(file);
    return strcmp(text, "text\n") == 0 ? 0 : EBADMSG;
}

/* Tries a message after the parent's turn. */
static inline void confined_and_waiting(void)
{
    confine();
    let_parent();
    report->errors[0][0] = message();
}

#endif
