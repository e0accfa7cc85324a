/* Full looks at a directory: see the header. */
#include "queue/scanner.h"

#include "common/log.h"
#include "queue/retire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Everything goes by descriptors, which stay with a directory that is moved away or removed. What the
 * disk does not tell is no reason to leave one. */
static bool is_replaced(const struct scanner *scanner)
{
    struct stat ours, there;
    char *path = spool_directory_path(scanner->spool, scanner->queue, scanner->directory);
    bool replaced = false;
    if (path == NULL)
        return false;
    if (fstat(scanner->spool->directories[scanner->queue][scanner->directory], &ours) == 0 &&
        stat(path, &there) == 0)
        replaced = ours.st_dev != there.st_dev || ours.st_ino != there.st_ino;
    else
        replaced = errno == ENOENT || errno == ENOTDIR || errno == ESTALE;
    free(path);
    return replaced;
}

static void found(struct scanner *scanner, const char *name)
{
    struct candidate *candidate = &scanner->found[scanner->found_count++];
    memcpy(candidate->id, name, ID_SIZE);
    candidate->directory = scanner->directory;
}

static void look_at(struct scanner *scanner, const char *name)
{
    if (scanner->directory == QUEUE_CUR) {
        if (scanner->judge_cb(scanner, name))
            found(scanner, name);
    } else if (id_valid(name)) {
        found(scanner, name);
    } else {
        retire_set_aside(scanner->spool, scanner->queue, QUEUE_NEW, name,
                         "the name is not a message id");
    }
}

/* Ids are in the order of their time. */
static int compare_cb(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)a)->id, ((const struct candidate *)b)->id);
}

void scanner_step(struct scanner *scanner, size_t max)
{
    scanner->found_count = 0;
    int error = 0;
    if (!scanner->open) {
        scanner->replaced = is_replaced(scanner);
        error = scan_open(&scanner->scan, scanner->spool, scanner->queue, scanner->directory);
        scanner->open = error == 0;
    }
    const char *name;
    int more = 1;
    /* Not every name is found, so what is looked at is bounded as well. */
    for (size_t i = 0; scanner->open && i < SCANNER_STEP && scanner->found_count < max; i++) {
        more = scan_next(&scanner->scan, &name);
        if (more <= 0)
            break;
        look_at(scanner, name);
    }
    if (more < 0)
        error = errno;
    qsort(scanner->found, scanner->found_count, sizeof scanner->found[0], compare_cb);
    if (more <= 0)
        scanner_stop(scanner);
    if (error)
        log_error("scan_failed", LOG_TEXT("directory", queue_directory_names[scanner->directory]),
                  LOG_ERRNO(error));
}

void scanner_stop(struct scanner *scanner)
{
    if (scanner->open)
        scan_close(&scanner->scan);
    scanner->open = false;
}
