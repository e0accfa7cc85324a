/* Reasons: see the header. */
#include "queue/tool/reason.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the message's name is as long as a name can be, there is no reason beside it. */
static int name_file(char file_name[static NAME_MAX + 1], const char *name)
{
    return snprintf(file_name, NAME_MAX + 1, "%s.reason", name) <= NAME_MAX ? 0 : ENOENT;
}

static int directory_of(const struct tool *tool, struct place place)
{
    return tool->spool.directories[place.queue][place.directory];
}

int reason_load(const struct tool *tool, struct place place, const char *name, struct buffer *text)
{
    char file_name[NAME_MAX + 1];
    struct stat status;
    ssize_t n = 0;
    int error = 0;

    if (name_file(file_name, name) != 0 || !buffer_reserve(text, REASON_BYTES_MAX))
        return text->failed ? ENOMEM : 0;
    /* As with messages: whatever lies there, it is not followed and not waited for. */
    int file = openat(directory_of(tool, place), file_name,
                      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT ? 0 : errno;
    if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode))
        error = EINVAL;
    else if ((n = read(file, text->data, REASON_BYTES_MAX)) < 0)
        error = errno;
    close(file);
    text->length = n > 0 ? (size_t)n : 0;
    while (text->length > 0 && text->data[text->length - 1] == '\n')
        text->length--;
    return error;
}

int reason_mark(const struct tool *tool, struct place place, const char *name)
{
    char file_name[NAME_MAX + 1];

    errno = name_file(file_name, name);
    if (errno != 0)
        return -1;
    /* It is held open, so that its inode number is nobody else's meanwhile. */
    return openat(directory_of(tool, place), file_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_marked(int directory, const char *name, int mark)
{
    struct stat marked, there;

    return fstat(mark, &marked) == 0 &&
           fstatat(directory, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           marked.st_dev == there.st_dev && marked.st_ino == there.st_ino;
}

/* Nothing removes a file by what it is: it is looked at where nobody replaces it, and put back if
 * it was another, unless there is a newer one still. */
int reason_drop(const struct tool *tool, struct place place, const char *name, int mark)
{
    char file_name[NAME_MAX + 1], taken[32];
    int directory = directory_of(tool, place),
        tmp = tool->spool.directories[place.queue][QUEUE_TMP];
    int error = 0;

    if (mark < 0)
        return 0;
    name_file(file_name, name);
    snprintf(taken, sizeof taken, "taken-%ld.reason", (long)getpid());
    if (is_marked(directory, file_name, mark)) {
        if (renameat(directory, file_name, tmp, taken) < 0)
            error = errno == ENOENT ? 0 : errno;
        else if (is_marked(tmp, taken, mark) ||
                 renameat2(tmp, taken, directory, file_name, RENAME_NOREPLACE) < 0)
            error = unlinkat(tmp, taken, 0) < 0 ? errno : 0;
    }
    close(mark);
    return error;
}
