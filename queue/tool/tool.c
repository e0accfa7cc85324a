/* How the commands speak: see the header. */
#include "queue/tool/tool.h"

#include "common/log.h"
#include "queue/tool/plain.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

static bool memory_is_out;

void tool_complain(const char *about, const char *what)
{
    /* What was printed before it stands before it, where both go to one place. */
    (void)fflush(stdout);
    fputs("mayfly-queue: ", stderr);
    plain_field(stderr, about, 0);
    fputs(": ", stderr);
    plain_field(stderr, what, 0);
    fputc('\n', stderr);
}

int tool_fail(const char *about, int error)
{
    tool_complain(about, log_errno_text(error));
    return error == EACCES || error == EPERM ? EX_NOPERM : EX_OSERR;
}

int tool_worse(int code, int other)
{
    return code != EX_OK ? code : other;
}

void tool_print_json(json_t *object)
{
    if (object == NULL || json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) < 0)
        memory_is_out = !ferror(stdout);
    fputc('\n', stdout);
    json_decref(object);
}

json_t *tool_json_text(const char *text)
{
    char *copy = plain_utf8(text);
    json_t *string = copy != NULL ? json_string(copy) : NULL;

    free(copy);
    return string;
}

void tool_json_set(json_t *object, const char *key, json_t *value)
{
    if ((key != NULL ? json_object_set_new(object, key, value)
                     : json_array_append_new(object, value)) < 0)
        memory_is_out = true;
}

int tool_finish(int code)
{
    if (memory_is_out)
        return tool_worse(code, tool_fail("JSON", ENOMEM));
    if (fflush(stdout) != 0 || ferror(stdout)) {
        tool_complain("standard output", log_errno_text(errno));
        return tool_worse(code, EX_IOERR);
    }
    return code;
}
