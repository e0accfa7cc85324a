/* What has been kept long enough: see the header. */
#include "storer/kept.h"

#include "common/log.h"
#include "queue/id.h"
#include "queue/retire.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/* Its time is that of its last rename, the ctime: the mtime is when smtpd wrote it, and setting
 * another is its owner's privilege. */
static bool is_due(const struct scanner *scanner, const char *name, long keep)
{
    struct stat file;
    struct timespec now;
    if (fstatat(scanner->spool->directories[scanner->queue][QUEUE_CUR], name, &file,
                AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    clock_gettime(CLOCK_REALTIME, &now);
    return file.st_ctim.tv_sec + keep <= now.tv_sec;
}

bool kept_judge_cb(struct scanner *scanner, const char *name)
{
    struct kept *kept = scanner->data;
    if (kept->seconds > 0 && id_valid(name))
        return is_due(scanner, name, kept->seconds);
    int error = retire_return(scanner->spool, scanner->queue, name);
    if (!error)
        log_info("returned", LOG_TEXT("id", name));
    else if (!kept->refused)
        log_error("not_returned", LOG_TEXT("id", name), LOG_ERRNO(error));
    kept->refused = error != 0;
    return false;
}
