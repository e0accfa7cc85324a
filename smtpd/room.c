/* Room on the disk: see the header. */
#include "smtpd/room.h"

#include "common/log.h"

#include <errno.h>

enum reply room_check(const struct spool *spool, enum queue queue, uint64_t min_free,
                      uint64_t declared)
{
    uint64_t bytes, files;
    int error = spool_room(spool, queue, &bytes, &files);

    if (error != 0) {
        log_error("room_unknown", LOG_TEXT("path", spool->path),
                  LOG_TEXT("queue", queue_names[queue]), LOG_ERRNO(error));
        return REPLY_LOCAL_ERROR;
    }
    if (files == 0 || bytes < min_free || declared > bytes - min_free)
        return REPLY_NO_SPACE;
    return REPLY_UNSET;
}

enum reply room_reply(int error)
{
    return error == ENOSPC || error == EDQUOT ? REPLY_NO_SPACE : REPLY_LOCAL_ERROR;
}
