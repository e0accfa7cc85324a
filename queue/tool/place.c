/* Places: see the header. */
#include "queue/tool/place.h"

#include "queue/id.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *place_state(struct place place)
{
    static const char *const states[QUEUE_COUNT][QUEUE_DIRECTORY_COUNT] = {
        [QUEUE_STORE] = {"receiving", "new", "kept", "failed"},
        [QUEUE_RELAY] = {"receiving", "new", "deferred", "failed"},
    };

    return states[place.queue][place.directory];
}

void place_format(char text[static PLACE_SIZE], struct place place, const char *name)
{
    snprintf(text, PLACE_SIZE, "%s/%s%s%s", queue_names[place.queue],
             queue_directory_names[place.directory], name != NULL ? "/" : "",
             name != NULL ? name : "");
}

bool place_has(const struct tool *tool, struct place place, const char *name)
{
    return faccessat(tool->spool.directories[place.queue][place.directory], name, F_OK,
                     AT_SYMLINK_NOFOLLOW) == 0;
}

size_t place_find(const struct tool *tool, const char *name,
                  struct place places[static PLACE_COUNT])
{
    /* relay's cur/ counts before its new/. */
    static const struct place order[] = {
        {QUEUE_STORE, QUEUE_NEW}, {QUEUE_RELAY, QUEUE_CUR},    {QUEUE_RELAY, QUEUE_NEW},
        {QUEUE_STORE, QUEUE_CUR}, {QUEUE_STORE, QUEUE_FAILED}, {QUEUE_RELAY, QUEUE_FAILED},
    };
    size_t count = 0;

    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if ((tool->options.queues & 1U << order[i].queue) != 0 &&
            (order[i].directory == QUEUE_FAILED || id_valid(name)) &&
            place_has(tool, order[i], name))
            places[count++] = order[i];
    }
    return count;
}

static bool ends_in(const char *name, const char *suffix, size_t *message)
{
    size_t length = strlen(name), size = strlen(suffix);

    *message = length > size ? length - size : 0;
    return length > size && strcmp(name + *message, suffix) == 0;
}

bool place_is_reason(const char *name, size_t *message)
{
    return ends_in(name, ".reason", message);
}

bool place_is_notification(const char *name, size_t *message)
{
    return ends_in(name, ".notification", message);
}
