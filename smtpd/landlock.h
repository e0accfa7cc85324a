/* Landlock: the files that are left to a thread, and to all that it starts from then on. See
 * smtpd/confine.h for what they are. */
#ifndef SMTPD_LANDLOCK_H
#define SMTPD_LANDLOCK_H

#include "smtpd/confine.h"

/* Restricts this thread, which has given up new privileges (no_new_privs), to the files of the plan,
 * and where the kernel's Landlock knows of them takes away TCP outwards, devices, and signals and
 * abstract sockets of other processes. Returns NULL with the version of the interface in `*abi`, or
 * the reason why nothing was done (valid until the next call of log_errno_text). */
const char *landlock_apply(const struct confine_plan *plan, int *abi);

#endif
