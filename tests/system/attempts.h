/* What a confined smtpd must be refused, tried from inside: by a unit test in children of its own, and
 * by confined.c in the real program. */
#ifndef TESTS_SYSTEM_ATTEMPTS_H
#define TESTS_SYSTEM_ATTEMPTS_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

/* Where it is tried: filled in before the confinement. */
static struct attempt_place {
    char outside[200];         /* a directory that may not be touched, with a file `secret` in it */
    char list[200];            /* a file that may be read */
    int tmp, new, failed;      /* of the spool's queue; in tmp/ and new/ lies a file `there` */
    int tcp, local;            /* sockets of before, not connected */
    struct sockaddr_in server; /* where somebody listens */
    struct sockaddr_un local_server;
    int pipe;
} place;

/* 0, or the errno value that it was refused with. */
static inline int attempt_result(long value)
{
    return value < 0 ? errno : 0;
}

static inline int attempt_open(int directory, const char *path, int flags)
{
    int descriptor = openat(directory, path, flags | O_CLOEXEC, 0600);

    if (descriptor >= 0)
        close(descriptor);
    return descriptor < 0 ? errno : 0;
}

static inline const char *outside(const char *name)
{
    static _Thread_local char path[256];

    snprintf(path, sizeof path, "%s/%s", place.outside, name);
    return path;
}

/* Files. */

static int reading_outside(void)
{
    return attempt_open(AT_FDCWD, outside("secret"), O_RDONLY);
}

static int reading_passwd(void)
{
    return attempt_open(AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static int reading_proc(void)
{
    return attempt_open(AT_FDCWD, "/proc/1/status", O_RDONLY);
}

static int reading_mail(void)
{
    return attempt_open(place.new, "there", O_RDONLY);
}

static int listing_mail(void)
{
    return attempt_open(place.new, ".", O_RDONLY | O_DIRECTORY);
}

static int changing_mail(void)
{
    return attempt_open(place.new, "there", O_WRONLY);
}

static int writing_outside(void)
{
    return attempt_open(AT_FDCWD, outside("mine"), O_WRONLY | O_CREAT);
}

static int overwriting_outside(void)
{
    return attempt_open(AT_FDCWD, outside("secret"), O_WRONLY | O_TRUNC);
}

static int writing_a_list(void)
{
    return attempt_open(AT_FDCWD, place.list, O_WRONLY);
}

static int emptying_a_list(void)
{
    return attempt_open(AT_FDCWD, place.list, O_RDONLY | O_TRUNC);
}

static int writing_in_failed(void)
{
    return attempt_open(place.failed, "mine", O_WRONLY | O_CREAT);
}

static int moving_out(void)
{
    return attempt_result(renameat(place.tmp, "there", AT_FDCWD, outside("there")));
}

static int moving_in(void)
{
    return attempt_result(renameat(AT_FDCWD, outside("secret"), place.tmp, "secret"));
}

static int removing_outside(void)
{
    return attempt_result(unlink(outside("secret")));
}

static int making_a_link(void)
{
    return attempt_result(symlinkat("/etc/passwd", place.tmp, "link"));
}

static int making_it_setuid(void)
{
    return attempt_result(fchmodat(place.tmp, "there", 06755, 0));
}

/* Programs and code. */

static int executing(void)
{
    char name[] = "true", *const arguments[] = {name, NULL};

    return attempt_result(execve("/bin/true", arguments, NULL));
}

static int forking(void)
{
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    if (child == 0)
        _exit(0);
    return attempt_result(child);
}

static int mapping_code(void)
{
    const int protection = PROT_READ | PROT_WRITE | PROT_EXEC;

    return mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno
                                                                                          : 0;
}

static int turning_data_into_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? 0 : attempt_result(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

/* The network. */

static int making_a_socket(void)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};
    int error = EPERM;

    for (int i = 0; error == EPERM && i < 4; i++)
        error = attempt_result(socket(families[i], i % 2 == 0 ? SOCK_STREAM : SOCK_DGRAM, 0));
    return error;
}

static int connecting_tcp(void)
{
    return attempt_result(
        connect(place.tcp, (struct sockaddr *)&place.server, sizeof place.server));
}

static int connecting_local(void)
{
    return attempt_result(
        connect(place.local, (struct sockaddr *)&place.local_server, sizeof place.local_server));
}

static int connecting_fast(void)
{
    return attempt_result(sendto(place.tcp, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&place.server,
                                 sizeof place.server));
}

static int connecting_fast_without_address(void)
{
    return attempt_result(sendto(place.tcp, "x", 1, MSG_FASTOPEN, NULL, 0));
}

static int sending_a_message(void)
{
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr header = {.msg_name = &place.server,
                            .msg_namelen = sizeof place.server,
                            .msg_iov = &part,
                            .msg_iovlen = 1};

    return attempt_result(sendmsg(place.tcp, &header, MSG_FASTOPEN));
}

static int binding(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};

    return attempt_result(bind(place.tcp, (struct sockaddr *)&any, sizeof any));
}

static int listening_anew(void)
{
    return attempt_result(listen(place.tcp, 1));
}

/* Other processes. */

static int tracing(void)
{
    return attempt_result(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL));
}

static int being_traced(void)
{
    return attempt_result(prctl(PR_SET_PTRACER, -1, 0, 0, 0));
}

static int reading_memory(void)
{
    char byte;
    struct iovec ours = {&byte, 1}, theirs = {&place, 1};

    return attempt_result(process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0));
}

static int killing(void)
{
    return attempt_result(kill(getpid(), 0));
}

static int killing_a_thread(void)
{
    return attempt_result(syscall(SYS_tgkill, 1, 1, 0));
}

static int having_the_kernel_kill(void)
{
    return attempt_result(fcntl(place.pipe, F_SETOWN, getpid()));
}

static int typing_into_the_terminal(void)
{
    return attempt_result(ioctl(place.pipe, TIOCSTI, "x"));
}

static int setting_limits(void)
{
    struct rlimit limit = {1, 1};

    return attempt_result(setrlimit(RLIMIT_CORE, &limit));
}

static int taking_a_namespace(void)
{
    return attempt_result(unshare(CLONE_NEWUSER));
}

/* Who refuses it: Landlock, with EACCES, or EXDEV for a rename; the filter, with EPERM, or ENOSYS where
 * nobody named it. */
enum attempt_want { BY_FILES, BY_FILTER, BY_ABSENCE };

static const struct attempt {
    const char *name;
    int (*try)(void);
    enum attempt_want want;
} attempts[] = {
    {"read outside", reading_outside, BY_FILES},
    {"read /etc/passwd", reading_passwd, BY_FILES},
    {"read /proc", reading_proc, BY_FILES},
    {"read mail", reading_mail, BY_FILES},
    {"list mail", listing_mail, BY_FILES},
    {"change mail", changing_mail, BY_FILES},
    {"write outside", writing_outside, BY_FILES},
    {"overwrite outside", overwriting_outside, BY_FILES},
    {"write a list", writing_a_list, BY_FILES},
    {"empty a list", emptying_a_list, BY_FILTER},
    {"write in failed/", writing_in_failed, BY_FILES},
    {"rename out of the spool", moving_out, BY_FILES},
    {"rename into the spool", moving_in, BY_FILES},
    {"unlink outside", removing_outside, BY_FILES},
    {"symlink", making_a_link, BY_FILTER},
    {"chmod", making_it_setuid, BY_FILTER},
    {"execve", executing, BY_FILTER},
    {"mmap of code", mapping_code, BY_FILTER},
    {"mprotect of data to code", turning_data_into_code, BY_FILTER},
    {"socket", making_a_socket, BY_FILTER},
    {"connect by TCP", connecting_tcp, BY_FILTER},
    {"connect locally", connecting_local, BY_FILTER},
    {"sendto with MSG_FASTOPEN", connecting_fast, BY_FILTER},
    {"send with MSG_FASTOPEN", connecting_fast_without_address, BY_ABSENCE},
    {"sendmsg", sending_a_message, BY_FILTER},
    {"bind", binding, BY_FILTER},
    {"listen", listening_anew, BY_FILTER},
    {"process_vm_readv", reading_memory, BY_FILTER},
    {"kill", killing, BY_FILTER},
    {"tgkill of another", killing_a_thread, BY_FILTER},
    {"F_SETOWN", having_the_kernel_kill, BY_ABSENCE},
    {"TIOCSTI", typing_into_the_terminal, BY_ABSENCE},
    {"setrlimit", setting_limits, BY_FILTER},
    {"unshare", taking_a_namespace, BY_FILTER},
    /* LeakSanitizer needs these three. */
    {"fork", forking, BY_FILTER},
    {"ptrace", tracing, BY_FILTER},
    {"prctl", being_traced, BY_FILTER},
};

enum { ATTEMPTS = sizeof attempts / sizeof *attempts, ATTEMPTS_OF_SANITIZERS = 3 };

static inline bool attempt_is_refused(const struct attempt *attempt, int error)
{
    switch (attempt->want) {
    case BY_FILES:
        return error == EACCES || error == EXDEV;
    case BY_FILTER:
        return error == EPERM;
    case BY_ABSENCE:
        return error == ENOSYS;
    }
    return false;
}

/* Calls that are refused whatever they ask for, which is nonsense here: -1 all over. */
#define CALL(name)                                                                                 \
    {                                                                                              \
#name, SYS_##name                                                                          \
    }
static const struct attempt_call {
    const char *name;
    long number;
} attempt_calls[] = {
    CALL(execve),
    CALL(execveat),
    CALL(memfd_create),
    CALL(pkey_mprotect),
    CALL(remap_file_pages),
    CALL(personality),
    CALL(socketpair),
    CALL(sendmmsg),
    CALL(recvmsg),
    CALL(recvmmsg),
    CALL(io_uring_setup),
    CALL(io_setup),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(splice),
    CALL(vmsplice),
    CALL(tee),
    CALL(seccomp),
    CALL(process_vm_writev),
    CALL(kcmp),
    CALL(pidfd_open),
    CALL(pidfd_getfd),
    CALL(pidfd_send_signal),
    CALL(tkill),
    CALL(rt_sigqueueinfo),
    CALL(setpriority),
    CALL(sched_setaffinity),
    CALL(shmget),
    CALL(shmat),
    CALL(semget),
    CALL(mq_open),
    CALL(fchmod),
    CALL(fchown),
    CALL(fchownat),
    CALL(setxattr),
    CALL(fsetxattr),
    CALL(utimensat),
    CALL(linkat),
    CALL(mkdirat),
    CALL(mknodat),
    CALL(truncate),
    CALL(ftruncate),
    CALL(name_to_handle_at),
    CALL(open_by_handle_at),
    CALL(inotify_init1),
    CALL(fanotify_init),
    CALL(quotactl),
    CALL(acct),
    CALL(chroot),
    CALL(pivot_root),
    CALL(mount),
    CALL(umount2),
    CALL(open_tree),
    CALL(move_mount),
    CALL(fsopen),
    CALL(fsconfig),
    CALL(fsmount),
    CALL(setns),
    CALL(setuid),
    CALL(setgid),
    CALL(setreuid),
    CALL(setresuid),
    CALL(setgroups),
    CALL(setpgid),
    CALL(capset),
    CALL(keyctl),
    CALL(add_key),
    CALL(request_key),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(kexec_load),
    CALL(reboot),
    CALL(swapon),
    CALL(swapoff),
    CALL(settimeofday),
    CALL(clock_settime),
    CALL(adjtimex),
    CALL(sethostname),
    CALL(setdomainname),
    CALL(syslog),
};

enum { ATTEMPT_CALLS = sizeof attempt_calls / sizeof *attempt_calls };

static inline int attempt_call(int which)
{
    return attempt_result(syscall(attempt_calls[which].number, -1L, -1L, -1L, -1L, -1L, -1L));
}

#endif
