/* Passwords and tokens in files: see the header. */
#include "relay/credentials.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Why the first line of what was read is no credential; NULL: it is one, and is terminated. */
static const char *line_cut(char *bytes, size_t length)
{
    char *end = memchr(bytes, '\n', length);

    if (end == NULL && length == CREDENTIALS_SIZE)
        return "its first line is too long";
    if (end == NULL)
        end = bytes + length;
    if (end > bytes && end[-1] == '\r')
        end--;
    if (end == bytes)
        return "its first line is empty";
    if (memchr(bytes, '\0', (size_t)(end - bytes)) != NULL)
        return "its first line has a NUL in it";
    *end = '\0';
    return NULL;
}

/* 0 or an errno value. A named pipe would block, and a file that grows need not be read to its end.
 */
static int read_file(int file, char bytes[static CREDENTIALS_SIZE], size_t *length)
{
    struct stat status;
    ssize_t count = 1;

    if (fstat(file, &status) != 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    for (*length = 0; count > 0 && *length < CREDENTIALS_SIZE; *length += (size_t)count) {
        count = read(file, bytes + *length, CREDENTIALS_SIZE - *length);
        if (count < 0)
            return errno;
    }
    return 0;
}

bool credentials_read(const char *path, char secret[static CREDENTIALS_SIZE],
                      char reason[static CREDENTIALS_REASON_SIZE])
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = file < 0 ? errno : 0;
    const char *words = NULL;
    size_t length = 0;

    if (file >= 0) {
        error = read_file(file, secret, &length);
        close(file);
    }
    words = error == EINVAL ? "it is no regular file"
            : error != 0    ? log_errno_text(error)
                            : line_cut(secret, length);
    if (words == NULL)
        return true;
    snprintf(reason, CREDENTIALS_REASON_SIZE, "%s", words);
    explicit_bzero(secret, CREDENTIALS_SIZE);
    return false;
}
