/* Durable small files, as many a second as a directory's file system takes them: the limit to which
 * what smtpd accepts is compared.
 *
 *     files -m METHOD [-t THREADS] [-b BATCH] [-l SIZE] [-n FILES] [-k] DIRECTORY
 *
 * Both methods end with the same promise, that a file's bytes and its name in new/ survive the power
 * going off. `each` is what POSIX has for it: write, fsync, rename, fsync of new/, a file at a time.
 * `syncfs` is what smtpd does (queue/commit.c has the reasons), without an envelope, without looking
 * after the journal, and without anybody to wait for: BATCH files are written, brought to the device
 * together, renamed, and made durable by one syncfs. */
#include "tests/bench/measure.h"
#include "tests/bench/message.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { THREADS_MAX = 256, BATCH_MAX = 1024, NAME_SIZE = 40 };

/* The device may begin with a file of this size while the next one is written; smaller ones are
 * better seen together. */
enum { LARGE = 65536 };

struct place {
    int directory, tmp, new;
};

static struct place place;
static bool by_syncfs;
static size_t batch = 32, size = 4096, total = 1000;
static char *contents;

static atomic_size_t begun;

/* A name that no other run has. */
static void file_name(char name[static NAME_SIZE], size_t number)
{
    snprintf(name, NAME_SIZE, "bench.%d.%zu", (int)getpid(), number);
}

static void write_back(int file, unsigned flags)
{
    if (sync_file_range(file, 0, 0, flags) < 0)
        measure_die("sync_file_range");
}

static int file_write(const char *name)
{
    int file = openat(place.tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (file < 0)
        measure_die(name);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(file, contents + done, size - done);
        if (n < 0)
            measure_die("write");
        done += (size_t)n;
    }
    return file;
}

static void file_rename(const char *name)
{
    if (renameat(place.tmp, name, place.new, name) < 0)
        measure_die("rename");
}

static void commit_each(size_t number)
{
    char name[NAME_SIZE];
    file_name(name, number);
    int file = file_write(name);
    if (fsync(file) < 0)
        measure_die("fsync");
    file_rename(name);
    if (fsync(place.new) < 0)
        measure_die("fsync of new/");
    close(file);
}

static void commit_batch(size_t first, size_t count)
{
    char names[BATCH_MAX][NAME_SIZE];
    int files[BATCH_MAX];
    for (size_t i = 0; i < count; i++) {
        file_name(names[i], first + i);
        files[i] = file_write(names[i]);
        if (size >= LARGE)
            write_back(files[i], SYNC_FILE_RANGE_WRITE);
    }
    for (size_t i = 0; i < count && size < LARGE; i++)
        write_back(files[i], SYNC_FILE_RANGE_WRITE);
    for (size_t i = 0; i < count; i++)
        write_back(files[i], SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                 SYNC_FILE_RANGE_WAIT_AFTER);
    for (size_t i = 0; i < count; i++)
        file_rename(names[i]);
    if (syncfs(place.directory) < 0)
        measure_die("syncfs");
    for (size_t i = 0; i < count; i++)
        close(files[i]);
}

static void *work(void *nothing)
{
    size_t step = by_syncfs ? batch : 1;
    for (size_t first; (first = atomic_fetch_add(&begun, step)) < total;) {
        if (by_syncfs)
            commit_batch(first, total - first < step ? total - first : step);
        else
            commit_each(first);
    }
    return nothing;
}

static int open_directory(int parent, const char *name, bool make)
{
    if (make)
        mkdirat(parent, name, 0750);
    int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        measure_die(name);
    return directory;
}

/* Takes away what was made, so that run after run finds the same room. */
static void clean(void)
{
    for (size_t number = 0; number < total; number++) {
        char name[NAME_SIZE];
        file_name(name, number);
        if (unlinkat(place.new, name, 0) < 0)
            measure_die(name);
    }
    syncfs(place.directory);
}

static void usage(void)
{
    fputs(
        "usage: files -m each|syncfs [-t THREADS] [-b BATCH] [-l SIZE] [-n FILES] [-k] DIRECTORY\n",
        stderr);
    exit(EX_USAGE);
}

int main(int argc, char **argv)
{
    const char *method = "";
    size_t threads = 1;
    bool keep = false;
    for (int letter; (letter = getopt(argc, argv, "m:t:b:l:n:k")) != -1;) {
        switch (letter) {
        case 'm':
            method = optarg;
            break;
        case 't':
            threads = measure_count('t', optarg, 1, THREADS_MAX);
            break;
        case 'b':
            batch = measure_count('b', optarg, 1, BATCH_MAX);
            break;
        case 'l':
            size = measure_count('l', optarg, 1, 1 << 30);
            break;
        case 'n':
            total = measure_count('n', optarg, 1, 100000000);
            break;
        case 'k':
            keep = true;
            break;
        default:
            usage();
        }
    }
    by_syncfs = strcmp(method, "syncfs") == 0;
    if (argc - optind != 1 || (!by_syncfs && strcmp(method, "each") != 0))
        usage();
    contents = malloc(size);
    if (contents == NULL)
        measure_die("memory");
    message_text(contents, size);
    place.directory = open_directory(AT_FDCWD, argv[optind], false);
    place.tmp = open_directory(place.directory, "tmp", true);
    place.new = open_directory(place.directory, "new", true);
    /* What others left to be written is not this run's. */
    syncfs(place.directory);

    pthread_t workers[THREADS_MAX];
    double start = measure_now(), cpu = measure_cpu();
    for (size_t i = 0; i < threads; i++) {
        if (pthread_create(&workers[i], NULL, work, NULL) != 0)
            measure_die("threads");
    }
    for (size_t i = 0; i < threads; i++)
        pthread_join(workers[i], NULL);
    double seconds = measure_now() - start;
    cpu = measure_cpu() - cpu;

    if (!keep)
        clean();
    printf("files=%zu seconds=%.6f rate=%.1f mb_per_second=%.1f cpu_seconds=%.6f\n", total, seconds,
           (double)total / seconds, (double)total * (double)size / seconds / 1e6, cpu);
    free(contents);
    return 0;
}
