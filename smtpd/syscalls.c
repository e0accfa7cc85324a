/* The table of system calls: see the header.
 *
 * It is a list of what is allowed, as pledge(2) is: what nobody thought of is refused, and a call
 * that next year's kernel brings is refused before anybody has heard of it. A list of what is
 * forbidden would have to be right about each of some four hundred calls, and stay so.
 *
 * Its price is that a later C library, libuv or OpenSSL may want a call that is not in it. Three
 * things keep that from being the end of a mail server:
 *
 * - An unknown call is answered ENOSYS, as by a kernel without it. Libraries are written for older
 *   kernels and then take what they took before: pthread_create clone instead of clone3 (whose
 *   flags lie in memory, where no filter sees them). EPERM would be taken for the truth.
 * - Beside a call stands the one that replaces it, where it can do no more.
 * - Nobody is killed for asking. A call that fails is logged by whoever made it, and a message that
 *   suffers is answered 4xx.
 *
 * What was left out on purpose is named in a second table and answered EPERM, so that whoever sees
 * it looks for a filter. It adds nothing to what is refused.
 *
 * Where files are concerned Landlock judges, for a filter sees no names: what it cannot judge (modes,
 * owners, links, attributes) is refused here. */
#include "smtpd/syscalls.h"

#include "common/log.h"
#include "smtpd/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* On s390 clone has its first two arguments the other way round. */
#if defined __s390__
enum { CLONE_FLAGS = 1 };
#else
enum { CLONE_FLAGS = 0 };
#endif

enum {
    CLONE_NEW = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                CLONE_NEWPID | CLONE_NEWNET
};

/* Names with spaces between them; what an architecture, or libseccomp, does not have is passed over.
 * With conditions the row counts where all of them hold. */
struct row {
    const char *calls;
    unsigned conditions;
    struct scmp_arg_cmp when[2];
};

static const struct row allowed[] = {
    /* Files: Landlock says which. No directory is ever read. To open for reading and to truncate is
     * to write, which Landlock learnt with its version 3 only; openat2, whose flags lie in memory,
     * would be a way around. */
    {"openat", 1, {{2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_TRUNC, O_RDONLY}}},
    {"openat", 1, {{2, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_WRONLY}}},
    {"openat", 1, {{2, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_RDWR}}},
    {"open", 1, {{1, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_TRUNC, O_RDONLY}}},
    {"open", 1, {{1, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_WRONLY}}},
    {"open", 1, {{1, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_RDWR}}},
    {.calls = "close read readv pread64 preadv write writev pwrite64 pwritev "
              "pwritev2 lseek _llseek fsync fdatasync syncfs sync_file_range sync_file_range2 "
              "rename renameat renameat2 unlink unlinkat stat stat64 fstat fstat64 newfstatat "
              "fstatat64 statx fstatfs fstatfs64"},

    /* Not F_SETOWN and F_SETSIG, by which the kernel sends any signal to any process of the user. */
    {"fcntl fcntl64", 1, {{1, SCMP_CMP_EQ, F_GETFD, 0}}},
    {"fcntl fcntl64", 1, {{1, SCMP_CMP_EQ, F_SETFD, 0}}},
    {"fcntl fcntl64", 1, {{1, SCMP_CMP_EQ, F_GETFL, 0}}},
    {"fcntl fcntl64", 1, {{1, SCMP_CMP_EQ, F_SETFL, 0}}},
    {"fcntl fcntl64", 1, {{1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0}}},

    /* Not TIOCSTI, which types into the terminal that smtpd was started from. */
    {"ioctl", 1, {{1, SCMP_CMP_EQ, FIONBIO, 0}}},
    {"ioctl", 1, {{1, SCMP_CMP_EQ, FIOCLEX, 0}}},
    {"ioctl", 1, {{1, SCMP_CMP_EQ, FIONREAD, 0}}},

    /* Connections, on sockets that listen already. */
    {.calls = "accept accept4 getsockname getpeername getsockopt setsockopt shutdown recv recvfrom "
              "send"},

    /* What send is on most machines: no address. shutdown makes a fresh socket of one that listens,
     * and MSG_FASTOPEN would connect that to anywhere. Nor is there sendmsg, whose address lies in
     * memory, where no filter sees it. */
    {"sendto", 2, {{3, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0}, {4, SCMP_CMP_EQ, 0, 0}}},

    /* The loop, and what wakes it. */
    {.calls = "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 pipe2 poll "
              "ppoll ppoll_time64 restart_syscall"},

    /* Threads: no process, and none in a namespace of its own. A thread's stack takes asking for
     * one's own limits. */
    {"clone", 1, {{CLONE_FLAGS, SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_NEW, CLONE_THREAD}}},
    {"prctl", 1, {{0, SCMP_CMP_EQ, PR_SET_NAME, 0}}},
    {"prlimit64", 2, {{0, SCMP_CMP_EQ, 0, 0}, {2, SCMP_CMP_EQ, 0, 0}}},
    {.calls = "getrlimit ugetrlimit futex futex_time64 set_robust_list rseq set_tid_address "
              "sched_yield sched_getaffinity membarrier gettid exit exit_group"},

    /* Memory holds data, or the code that was there at the start: neither a file of the spool nor
     * what a client sent becomes a program. So nothing can be loaded later (dlopen) either: what
     * names are looked up by, and what openssl.cnf asks for, is there by now. */
    {"mmap mmap2", 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
    {"mprotect", 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
    {.calls = "brk munmap mremap madvise"},

    /* Signals; to send one to oneself stands in add_own_signals. */
    {.calls = "rt_sigaction rt_sigprocmask rt_sigreturn sigreturn sigaltstack"},

    /* Time, chance, and who and where one is. */
    {.calls = "clock_gettime clock_gettime64 clock_getres clock_getres_time64 gettimeofday time "
              "nanosleep clock_nanosleep clock_nanosleep_time64 getrandom getpid getuid getuid32 "
              "geteuid geteuid32 getgid getgid32 getegid getegid32 uname sysinfo"},

#if CONFINE_SANITIZED
    {.calls = "clone ptrace wait4 prctl getppid getdents getdents64 readlink readlinkat"},
#endif
};

/* What somebody thought of, and the other side of some conditions. */
static const struct row refused[] = {
    /* Programs and processes, and code. */
    {.calls = "execve execveat fork vfork uselib memfd_create memfd_secret pkey_mprotect "
              "remap_file_pages personality"},
    {"mmap mmap2", 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC}}},
    {"mprotect", 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC}}},

    /* Sockets, and sending to where one likes. */
    {.calls = "socket socketpair connect bind listen sendmsg sendmmsg recvmsg recvmmsg"},
    {"sendto", 1, {{4, SCMP_CMP_NE, 0, 0}}},

    /* Ways around the filter, and into the kernel. */
    {.calls = "io_uring_setup io_uring_enter io_uring_register io_setup io_submit bpf "
              "perf_event_open userfaultfd splice vmsplice tee seccomp"},

    /* Other processes, and means to speak with them. */
    {.calls =
         "process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_open "
         "pidfd_getfd pidfd_send_signal kill tkill rt_sigqueueinfo rt_tgsigqueueinfo "
         "setpriority sched_setaffinity sched_setscheduler shmget shmat msgget semget mq_open"},
    {"prlimit64", 1, {{2, SCMP_CMP_NE, 0, 0}}},

    /* Files emptied by who may only read them. */
    {"openat", 1, {{2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_TRUNC, O_RDONLY | O_TRUNC}}},

    /* What a file is beside its contents, and what is more than a file. */
    {.calls =
         "chmod fchmod fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr "
         "removexattr utimensat link linkat symlink symlinkat mkdir mkdirat rmdir mknod mknodat "
         "truncate ftruncate name_to_handle_at open_by_handle_at inotify_init1 "
         "fanotify_init quotactl acct"},

    /* The root, the mounts, the namespaces. */
    {.calls = "chroot pivot_root mount umount2 open_tree move_mount mount_setattr fsopen fsconfig "
              "fsmount fspick unshare setns"},

    /* Who one is, and what one may. */
    {.calls =
         "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid "
         "setresuid32 setresgid setresgid32 setgroups setgroups32 setfsuid setfsuid32 setfsgid "
         "setfsgid32 setsid setpgid setrlimit capset keyctl add_key request_key"},

    /* The machine. */
    {.calls = "init_module finit_module delete_module kexec_load kexec_file_load reboot swapon "
              "swapoff settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname "
              "syslog vhangup iopl ioperm"},

#if !CONFINE_SANITIZED
    {.calls = "ptrace wait4 getdents getdents64"},
    {"clone", 1, {{CLONE_FLAGS, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0}}},
    {"prctl", 1, {{0, SCMP_CMP_NE, PR_SET_NAME, 0}}},
#endif
};

enum { REFUSE = SCMP_ACT_ERRNO(EPERM) };

/* -EDOM: not here, or not with conditions. -EEXIST: the sanitizers' row repeats one before it. */
static int add_row(scmp_filter_ctx filter, uint32_t action, const struct row *row)
{
    const char *at = row->calls;
    int error = 0;

    while (error == 0 && *at != '\0') {
        char name[32];
        size_t length = strcspn(at, " ");
        int call;
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        at += length + strspn(at + length, " ");
        call = seccomp_syscall_resolve_name(name);
        if (call == __NR_SCMP_ERROR)
            continue;
        error = seccomp_rule_add_array(filter, action, call, row->conditions, row->when);
        if (error == -EEXIST || error == -EDOM)
            error = 0;
    }
    return error;
}

static int add_rows(scmp_filter_ctx filter, uint32_t action, const struct row rows[], size_t count)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < count; i++)
        error = add_row(filter, action, &rows[i]);
    return error;
}

/* abort, and so every failed assertion, is a signal to one's own thread. */
static int add_own_signals(scmp_filter_ctx filter)
{
    const scmp_datum_t self = (scmp_datum_t)getpid();
    const struct row own = {"tgkill", 1, {{0, SCMP_CMP_EQ, self, 0}}};
    const struct row other = {"tgkill", 1, {{0, SCMP_CMP_NE, self, 0}}};
    int error = add_row(filter, SCMP_ACT_ALLOW, &own);

    return error != 0 ? error : add_row(filter, REFUSE, &other);
}

static int fill(scmp_filter_ctx filter)
{
    int error = add_rows(filter, SCMP_ACT_ALLOW, allowed, sizeof allowed / sizeof *allowed);

    if (error == 0)
        error = add_own_signals(filter);
    if (error == 0)
        error = add_rows(filter, REFUSE, refused, sizeof refused / sizeof *refused);
    return error;
}

static const char lacking[] = "the kernel was built without filters, or is older than 3.17";

static const char *load(scmp_filter_ctx filter)
{
    int error;

    /* Calls by another architecture's numbers (int 0x80 of a 64-bit process) are nobody's mistake. */
    seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) != 0)
        return lacking;
    error = fill(filter);
    if (error != 0)
        return log_errno_text(-error);
    error = seccomp_load(filter);
    if (error == -ENOSYS || error == -EINVAL)
        return lacking;
    return error == 0 ? NULL : log_errno_text(-error);
}

const char *syscalls_apply(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    const char *reason = filter != NULL ? load(filter) : log_errno_text(ENOMEM);

    seccomp_release(filter);
    return reason;
}

const char *syscalls_refuse_rings(void)
{
    static const struct row ring = {.calls = "io_uring_setup"};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int error = filter != NULL ? add_row(filter, SCMP_ACT_ERRNO(ENOSYS), &ring) : -ENOMEM;

    if (error == 0)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error == 0 ? NULL : log_errno_text(-error);
}
