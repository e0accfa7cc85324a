/* Reasons: see the header. */
#include "relay/reason.h"

#include "common/fault.h"
#include "queue/retire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For the line that says how many are missing, and the caller's. */
enum { REASON_RESERVE = 1024 };

/* Words may be a server's, and a file that is printed on a terminal must not be steered by them. */
static void append_plain(struct buffer *text, const char *words)
{
    for (; *words != '\0'; words++) {
        bool control = (unsigned char)*words < ' ' || *words == 0x7f;
        buffer_append(text, control ? " " : words, 1);
    }
}

void reason_add(struct buffer *text, const struct mail *mail, unsigned outcomes)
{
    size_t missing = 0;

    for (size_t i = 0; i < mail->count; i++) {
        const struct recipient *recipient = &mail->recipients[i];
        if ((outcomes & 1U << recipient->outcome) == 0 || recipient->words == NULL)
            continue;
        if (text->length + strlen(recipient->address) + strlen(recipient->words) >
            text->maximum - REASON_RESERVE) {
            missing++;
            continue;
        }
        buffer_printf(text, "<%s>: ", recipient->address);
        append_plain(text, recipient->words);
        buffer_append_string(text, "\n");
    }
    if (missing > 0)
        buffer_printf(text, "and %zu more\n", missing);
}

static void name_file(char file_name[static NAME_MAX + 1], const char *name)
{
    snprintf(file_name, NAME_MAX + 1, "%s.reason", name);
}

/* A regular file takes all that there is room for. */
static int write_text(int file, const struct buffer *text)
{
    ssize_t n = FAULT_CALL("reason.write",
                           write(file, text->data, FAULT_LENGTH("reason.write", text->length)));

    if (n != (ssize_t)text->length)
        return n < 0 ? errno : ENOSPC;
    return FAULT_CALL("reason.fsync", fsync(file)) < 0 ? errno : 0;
}

int reason_write(const struct spool *spool, enum queue_directory directory, const char *name,
                 const struct buffer *text)
{
    const int *directories = spool->directories[QUEUE_RELAY];
    char file_name[NAME_MAX + 1];
    int file, error;

    if (text->failed)
        return ENOMEM;
    name_file(file_name, name);
    /* tmp/ is the whole group's: what lies there under our name is not written through. */
    error = retire_remove(spool, QUEUE_RELAY, QUEUE_TMP, file_name);
    if (error != 0)
        return error;
    file = FAULT_CALL("reason.create",
                      openat(directories[QUEUE_TMP], file_name,
                             O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_FILE_MODE));
    if (file < 0)
        return errno;
    error = write_text(file, text);
    close(file);
    if (error == 0 && FAULT_CALL("reason.rename", renameat(directories[QUEUE_TMP], file_name,
                                                           directories[directory], file_name)) < 0)
        error = errno;
    if (error != 0)
        FAULT_CALL("reason.undo", unlinkat(directories[QUEUE_TMP], file_name, 0));
    return error;
}

int reason_remove(const struct spool *spool, enum queue_directory directory, const char *name)
{
    char file_name[NAME_MAX + 1];

    name_file(file_name, name);
    return retire_remove(spool, QUEUE_RELAY, directory, file_name);
}
