/* Measures the commit techniques of queue/commit.h against each other: files a second into a spool
 * in DIRECTORY, by method and size of the group, medians of several runs.
 *
 *     build/tests/bench/commit DIRECTORY [BYTES] */
#include "queue/commit.h"
#include "tests/bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { RUNS = 5, FILES = 1024 };

static const char *recipients[] = {"bob@mayfly.example"};

/* Flushes that the block device of `path` was sent so far; 0 where the kernel does not say. */
static unsigned long flushes(const char *path)
{
    struct stat status;
    unsigned long count = 0;
    if (stat(path, &status) < 0)
        measure_die(path);
    FILE *stats = fopen("/proc/diskstats", "re");
    char line[512];
    while (stats != NULL && fgets(line, sizeof line, stats) != NULL) {
        unsigned major, minor;
        unsigned long fields[17] = {0};
        int n = sscanf(line,
                       "%u %u %*s %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu",
                       &major, &minor, &fields[0], &fields[1], &fields[2], &fields[3], &fields[4],
                       &fields[5], &fields[6], &fields[7], &fields[8], &fields[9], &fields[10],
                       &fields[11], &fields[12], &fields[13], &fields[14], &fields[15]);
        if (n == 18 && makedev(major, minor) == status.st_dev)
            count = fields[15];
    }
    if (stats != NULL)
        fclose(stats);
    return count;
}

static void commit_group(struct commit *commit, const struct spool *spool, size_t size,
                         const char *bytes, size_t length)
{
    struct writer writers[COMMIT_GROUP_MAX], *group[COMMIT_GROUP_MAX] = {NULL};
    for (size_t i = 0; i < size; i++) {
        char id[ID_SIZE];
        id_make(id, INT64_C(1795288091123456));
        struct envelope envelope = {
            .id = id,
            .received = INT64_C(1795288091123456),
            .client_address = "192.0.2.1",
            .helo = "mail.example.org",
            .protocol = "ESMTP",
            .from = "alice@example.org",
            .recipients = recipients,
            .recipients_count = 1,
        };
        group[i] = &writers[i];
        writer_begin(group[i], spool, QUEUE_STORE, &envelope);
        writer_finish(group[i], bytes, length);
    }
    commit_run(commit, group, size);
    for (size_t i = 0; i < size; i++) {
        if (writers[i].error != 0)
            measure_die("commit");
        unlinkat(spool->directories[QUEUE_STORE][QUEUE_NEW], writers[i].id, 0);
    }
}

int main(int argc, char **argv)
{
    size_t length = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
    char *bytes = calloc(1, length + 1);
    struct spool spool;
    if (argc < 2 || bytes == NULL || spool_open(&spool, argv[1]) != 0) {
        fprintf(stderr, "usage: commit DIRECTORY [BYTES]\n");
        return 64;
    }
    memset(bytes, 'm', length);

    static const size_t sizes[] = {1, 8, 32, 128, 512};
    double reference = 0;
    printf("| method | group | files a second | ratio | flushes a file |\n|---|---|---|---|---|\n");
    for (int method = COMMIT_FSYNC; method >= COMMIT_SYNCFS; method--) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct commit commit;
            if (commit_open(&commit, &spool) != 0)
                measure_die("commit_open");
            struct commit_queue *store = &commit.queues[QUEUE_STORE];
            if (method == COMMIT_SYNCFS && store->method != COMMIT_SYNCFS)
                break;
            store->method = (enum commit_method)method;
            double rates[RUNS];
            unsigned long before = flushes(argv[1]);
            for (int run = 0; run < RUNS; run++) {
                double start = measure_now();
                for (size_t done = 0; done < FILES; done += sizes[i])
                    commit_group(&commit, &spool, sizes[i], bytes, length);
                rates[run] = FILES / (measure_now() - start);
            }
            measure_sort(rates, RUNS);
            double median = rates[RUNS / 2];
            if (reference <= 0)
                reference = median;
            printf("| %s | %zu | %.0f | %.1f | %.2f |\n",
                   commit_method_name((enum commit_method)method), sizes[i], median,
                   median / reference, (double)(flushes(argv[1]) - before) / (RUNS * FILES));
            commit_close(&commit);
        }
    }
    spool_close(&spool);
    free(bytes);
    return 0;
}
