/* usage: lacking landlock|seccomp COMMAND...
 *
 * Runs a command as on a kernel that was built without one of the two. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse(unsigned call, unsigned first_argument, int any_argument, unsigned error)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first_argument, 0, any_argument ? 0 : 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof steps / sizeof *steps, steps};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    int error = argc < 3 ? -1 : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

    if (error == 0 && strcmp(argv[1], "landlock") == 0)
        error = refuse(SYS_landlock_create_ruleset, 0, 1, ENOSYS);
    else if (error == 0)
        error = refuse(SYS_seccomp, 0, 1, ENOSYS) || refuse(SYS_prctl, PR_SET_SECCOMP, 0, EINVAL);
    if (error == 0)
        execv(argv[2], argv + 2);
    perror("lacking");
    return 1;
}
