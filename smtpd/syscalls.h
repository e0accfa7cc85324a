/* seccomp: the system calls that are left to the process. See smtpd/confine.h for what they are for. */
#ifndef SMTPD_SYSCALLS_H
#define SMTPD_SYSCALLS_H

/* Restricts every thread of this process, for good. Returns NULL, or the reason why nothing was done
 * (valid until the next call of log_errno_text). */
const char *syscalls_apply(void);

/* Refuses to make an io_uring, as a kernel without it does, and nothing else. The same. */
const char *syscalls_refuse_rings(void);

#endif
