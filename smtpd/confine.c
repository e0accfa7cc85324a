/* Confinement, step by step: see the header.
 *
 * Why so late in the start, and not before it: nothing that a stranger sent has been read yet, and
 * to open sockets, make the spool and load a certificate takes what is then given up. Why so early:
 * Landlock and capabilities belong to a thread and go on to those that it starts, so the thread
 * pool, which starts with its first work, must not exist. */
#include "smtpd/confine.h"

#include "common/log.h"
#include "smtpd/landlock.h"
#include "smtpd/syscalls.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

struct confine_plan confine_plan(const struct config *config, const struct spool *spool)
{
    struct confine_plan plan = {
        .how = (enum config_confine)config->confine,
        .spool = spool,
        .metrics_file = config->common.metrics_file,
        .files = {config->tls_cert, config->tls_key},
        .files_count = 2,
    };

    /* By the table, so that no list is forgotten. */
    for (size_t i = 0; i < config_settings_count && plan.files_count < CONFINE_FILES_MAX; i++) {
        const struct setting *setting = &config_settings[i];
        const void *field = (const char *)config + setting->offset;
        if (setting->type == SETTING_LIST)
            plan.files[plan.files_count++] = ((const struct setting_list *)field)->path;
    }
    return plan;
}

/* The steps. Each returns NULL, or the reason why it could not be done. */

/* A thread has a directory in it, and a directory a link for each in it and two more. Where /proc
 * is not mounted nobody can say. */
static const char *see_one_thread(void)
{
    struct stat threads;

    return stat("/proc/self/task", &threads) == 0 && threads.st_nlink != 2 + 1
               ? "another thread runs already"
               : NULL;
}

static const char *give_up_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? NULL : log_errno_text(errno);
}

/* The bounding set and the ambient one can only be lowered one by one and as a whole; the first needs
 * a capability that few have, and bounds only what a new program may get, of which there is none. */
static void lower_bounds(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
         capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

/* Root keeps what makes a spool and lists of other users open to it: without it root is somebody who
 * owns none of them. */
static const char *give_up_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    const uint32_t kept = geteuid() == 0 ? 1U << CAP_DAC_OVERRIDE : 0;

    lower_bounds();
    if (syscall(SYS_capget, &header, sets) < 0)
        return log_errno_text(errno);
    sets[0].permitted &= kept;
    sets[0].effective &= kept;
    sets[0].inheritable = 0;
    sets[1] = (struct __user_cap_data_struct){0};
    return syscall(SYS_capset, &header, sets) == 0 ? NULL : log_errno_text(errno);
}

static bool is_done(const struct confine_plan *plan, const char *what, const char *reason)
{
    if (reason == NULL)
        return true;
    if (plan->how == CONFINE_REQUIRE)
        log_error("not_confined", LOG_TEXT("what", what), LOG_TEXT("reason", reason));
    else
        log_warn("not_confined", LOG_TEXT("what", what), LOG_TEXT("reason", reason));
    return false;
}

/* Where this cannot be done confine_apply will say that it cannot. */
void confine_prepare(const struct config *config)
{
    if (config->confine != CONFINE_OFF)
        syscalls_refuse_rings();
}

/* The filter comes last: it refuses the calls of the other steps. */
int confine_apply(const struct confine_plan *plan)
{
    bool done;
    int abi;

    if (geteuid() == 0)
        log_warn("running_as_root");
    if (plan->how == CONFINE_OFF)
        return EX_OK;
    tzset(); /* gmtime_r would have it done, and /etc/localtime refused */
    done = is_done(plan, "threads", see_one_thread());
    done = is_done(plan, "no_new_privs", give_up_new_privileges()) && done;
    done = is_done(plan, "landlock", landlock_apply(plan, &abi)) && done;
    done = is_done(plan, "capabilities", give_up_capabilities()) && done;
    done = is_done(plan, "seccomp", syscalls_apply()) && done;
    if (done)
        log_info("confined", LOG_NUMBER("landlock", abi), LOG_NUMBER("seccomp", 1));
    return done || plan->how != CONFINE_REQUIRE ? EX_OK : EX_OSERR;
}
