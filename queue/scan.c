/* Directory scans: see the header. */
#include "queue/scan.h"

#include "common/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int scan_open(struct scan *scan, const struct spool *spool, enum queue queue,
              enum queue_directory directory)
{
    /* A stream has a position, which must not be shared with another scan: a descriptor of its own.
     */
    int descriptor = FAULT_CALL("scan.open", openat(spool->directories[queue][directory], ".",
                                                    O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor < 0) {
        scan->stream = NULL;
        return errno;
    }
    scan->stream = fdopendir(descriptor);
    if (scan->stream == NULL) {
        int error = errno;
        close(descriptor);
        return error;
    }
    return 0;
}

int scan_next(struct scan *scan, const char **name)
{
    for (;;) {
        errno = 0; /* the only way to tell an error from the end */
        const struct dirent *entry = FAULT_STEP("scan.read", readdir(scan->stream), NULL);
        if (entry == NULL)
            return errno == 0 ? 0 : -1;
        if (entry->d_name[0] != '.') {
            *name = entry->d_name;
            return 1;
        }
    }
}

void scan_close(struct scan *scan)
{
    if (scan->stream != NULL)
        closedir(scan->stream);
    scan->stream = NULL;
}
