/* A disk that remembers: a file system of one file, `disk`, to put a loop device on. What a file
 * system on that device writes and flushes is recorded, in the order in which it came to the disk,
 * so that afterwards the disk can be put together as it would be if the power had gone at any
 * moment.
 *
 *     recorder IMAGE LOG POSITION DIRECTORY
 *
 * IMAGE holds what was written, for whoever reads the disk now. LOG gets a record for each write
 * and each flush. POSITION is a small file to be mapped: the number of records so far, in the
 * machine's byte order. It is counted up when a record is complete and before the kernel is told
 * that the write or the flush is done: whoever has waited for a flush and reads the position knows
 * that the flush is among so many.
 *
 * One thread, and no cache of writes in the kernel: so the order is total, and a flush is of all
 * that stands before it. (A device may also leave out what was still under way when the flush was
 * asked for. Such a write is here as good as flushed: what a file system does that does not wait
 * for its own writes is not tried.) */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum record_kind { RECORD_WRITE, RECORD_FLUSH };

struct record {
    uint64_t offset;
    uint32_t length; /* bytes that follow */
    uint32_t kind;
};

static const char disk_path[] = "/disk";
static int image, record_log;
static _Atomic uint64_t *position;

static bool record(enum record_kind kind, const void *bytes, size_t length, off_t offset)
{
    struct record head = {(uint64_t)offset, (uint32_t)length, kind};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)(uintptr_t)bytes, length}};

    return writev(record_log, parts, 2) == (ssize_t)(sizeof head + length);
}

static int disk_getattr(const char *path, struct stat *status, struct fuse_file_info *file)
{
    (void)file;
    if (strcmp(path, "/") == 0) {
        *status = (struct stat){.st_mode = S_IFDIR | 0700, .st_nlink = 2};
        return 0;
    }
    if (strcmp(path, disk_path) != 0)
        return -ENOENT;
    return fstat(image, status) < 0 ? -errno : 0;
}

/* Past the page cache: the loop device above has one. */
static int disk_open(const char *path, struct fuse_file_info *file)
{
    file->direct_io = 1;
    return strcmp(path, disk_path) == 0 ? 0 : -ENOENT;
}

static int disk_read(const char *path, char *bytes, size_t length, off_t offset,
                     struct fuse_file_info *file)
{
    ssize_t n = pread(image, bytes, length, offset);

    (void)path;
    (void)file;
    return n < 0 ? -errno : (int)n;
}

static int disk_write(const char *path, const char *bytes, size_t length, off_t offset,
                      struct fuse_file_info *file)
{
    (void)path;
    (void)file;
    if (!record(RECORD_WRITE, bytes, length, offset) ||
        pwrite(image, bytes, length, offset) != (ssize_t)length)
        return -EIO;
    atomic_fetch_add(position, 1);
    return (int)length;
}

static int disk_fsync(const char *path, int data_only, struct fuse_file_info *file)
{
    (void)path;
    (void)data_only;
    (void)file;
    if (!record(RECORD_FLUSH, NULL, 0, 0))
        return -EIO;
    atomic_fetch_add(position, 1);
    return 0;
}

/* Nothing discards or zeroes a range: a file system is refused that and goes on without. */
static const struct fuse_operations operations = {
    .getattr = disk_getattr,
    .open = disk_open,
    .read = disk_read,
    .write = disk_write,
    .fsync = disk_fsync,
};

static int open_or_exit(const char *path, int flags)
{
    int descriptor = open(path, flags | O_CLOEXEC, 0600);

    if (descriptor < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    return descriptor;
}

int main(int count, char *arguments[])
{
    if (count != 5) {
        fprintf(stderr, "usage: %s IMAGE LOG POSITION DIRECTORY\n", arguments[0]);
        return EXIT_FAILURE;
    }
    image = open_or_exit(arguments[1], O_RDWR);
    record_log = open_or_exit(arguments[2], O_WRONLY | O_CREAT | O_APPEND);
    int counter = open_or_exit(arguments[3], O_RDWR | O_CREAT);
    if (ftruncate(counter, sizeof *position) < 0) {
        perror(arguments[3]);
        return EXIT_FAILURE;
    }
    position = mmap(NULL, sizeof *position, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
    if (position == MAP_FAILED) {
        perror("mmap");
        return EXIT_FAILURE;
    }
    char *options[] = {arguments[0], "-f", "-s", arguments[4], NULL};
    return fuse_main(4, options, &operations, NULL);
}
