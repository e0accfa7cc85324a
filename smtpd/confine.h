/* Confinement: what smtpd may do from the end of its start on, whatever a client makes of it. It
 * may
 *
 * - make, write, move and remove files in tmp/ and new/ of the spool's queues, but read none of them;
 * - the same in the directory of METRICS_FILE;
 * - read what lies in, or below, the directories of the certificate, the key and the lists, so that
 *   SIGHUP finds what a renewal left there;
 * - serve the sockets it listens on, and make no other socket;
 * - start threads, but no program and no process, and no code that it was not started with;
 * - gain no privilege: what it had is given up.
 *
 * Landlock (smtpd/landlock.c) sees to the files, seccomp (smtpd/syscalls.c) to the system calls; the
 * rest is capabilities and no_new_privs. All of it is for good: nothing in the process can undo it. */
#ifndef SMTPD_CONFINE_H
#define SMTPD_CONFINE_H

#include "queue/spool.h"
#include "smtpd/config.h"

#include <stddef.h>

/* Whether this is a build with AddressSanitizer, whose LeakSanitizer has to see into the process at
 * the end, from another one that it makes: just that is left to it. */
#if defined __has_feature
#if __has_feature(address_sanitizer)
#define CONFINE_SANITIZED 1
#endif
#elif defined __SANITIZE_ADDRESS__
#define CONFINE_SANITIZED 1
#endif
#ifndef CONFINE_SANITIZED
#define CONFINE_SANITIZED 0
#endif

/* More settings than name a file. */
enum { CONFINE_FILES_MAX = 32 };

struct confine_plan {
    enum config_confine how;
    const struct spool *spool;            /* open */
    const char *metrics_file;             /* or NULL */
    const char *files[CONFINE_FILES_MAX]; /* read again at SIGHUP; NULL where there is none */
    size_t files_count;
};

/* To be called before there is a loop: libuv from 1.45 on gives each an io_uring, through which it
 * goes on to change what it polls; a process that is confined later would have the ring, and end at
 * the first use of it, which is refused. Without the right to make one libuv does without. */
void confine_prepare(const struct config *config);

/* What the settings ask for. The plan points into `config`. */
struct confine_plan confine_plan(const struct config *config, const struct spool *spool);

/* Confines the process, which must have no second thread yet and every socket that it will ever
 * listen on. Returns 0, or EX_OSERR when something is missing and the plan says CONFINE_REQUIRE.
 *
 * Logs `confined` when all is done, else `not_confined` for each thing that is not, with its name
 * (`threads`, `no_new_privs`, `landlock`, `capabilities`, `seccomp`) and the reason; what could be done
 * is done all the same. Whoever runs it as root is warned, however much is asked for. */
int confine_apply(const struct confine_plan *plan);

#endif
