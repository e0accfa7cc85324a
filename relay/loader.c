/* From names to mails: see the header. */
#include "relay/loader.h"

#include "relay/deferred.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Some recipients of it have failed, now or earlier. */
static bool has_failed(const struct spool *spool, const char *id)
{
    return faccessat(spool->directories[QUEUE_RELAY][QUEUE_FAILED], id, F_OK,
                     AT_SYMLINK_NOFOLLOW) == 0;
}

static enum mail_status resume(struct load *load, struct mail *mail)
{
    enum mail_status status;

    uv_mutex_lock(load->recorder_lock);
    status = record_resume(load->recorder, mail);
    uv_mutex_unlock(load->recorder_lock);
    return status;
}

static struct mail *load_candidate(struct load *load, const struct candidate *candidate)
{
    const struct spool *spool = load->recorder->spool;
    struct mail *mail = NULL;
    enum mail_status status = mail_load(&mail, spool, candidate->directory, candidate->id);

    if (status == MAIL_LOADED && candidate->directory == QUEUE_CUR &&
        !deferred_is_due(mail->reader.modified))
        status = MAIL_GONE;
    if (status == MAIL_LOADED && has_failed(spool, candidate->id))
        status = resume(load, mail);
    load->malformed += status == MAIL_SET_ASIDE;
    load->superseded += status == MAIL_SUPERSEDED;
    if (status == MAIL_LOADED)
        return mail;
    mail_free(mail);
    return NULL;
}

void loader_run(struct load *load)
{
    load->malformed = load->superseded = 0;
    for (size_t i = 0; i < load->count; i++)
        load->mails[i] = load_candidate(load, &load->candidates[i]);
}
