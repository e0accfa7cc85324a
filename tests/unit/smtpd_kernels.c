/* Kernels that lack what confinement takes, and those of old: what is said, what is done all the same,
 * and when it is refused to start. */
#include "confined.h"

#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <seccomp.h>

/* Filters of ours stand before the real kernel's answers. */

enum { REAL = INT_MAX };

static const struct kernel {
    const char *name;
    int landlock; /* the version it says, minus an errno value, or REAL */
    bool seccomp;
    const char *says; /* in try and require, behind the level */
} kernels[] = {
    {"as it is", REAL, true, "event=confined landlock="},
    {"Landlock not built", -ENOSYS, true,
     "event=not_confined what=landlock reason=\"the kernel was built without it\""},
    {"Landlock not among lsm=", -EOPNOTSUPP, true,
     "event=not_confined what=landlock reason=\"it is not among the kernel's lsm= at boot\""},
    {"Landlock 1", 1, true,
     "event=not_confined what=landlock reason=\"the kernel's version of it refuses to rename"},
    {"no filters", REAL, false, "event=not_confined what=seccomp reason=\"the kernel was built"},
    {"Landlock 2", 2, true, "event=confined landlock=2 seccomp=1"},
    {"Landlock 3", 3, true, "event=confined landlock=3 seccomp=1"},
    {"Landlock 4", 4, true, "event=confined landlock=4 seccomp=1"},
    {"Landlock 5", 5, true, "event=confined landlock=5 seccomp=1"},
};

enum { KERNELS = sizeof kernels / sizeof *kernels };

static const struct kernel *kernel;

/* A filter can answer with an error only; a number takes a supervisor, who shares our descriptors and
 * answers once. */
static void supervise(const int pipe[2])
{
    struct seccomp_notif *question;
    struct seccomp_notif_resp *reply;
    int descriptor;

    if (read(pipe[0], &descriptor, sizeof descriptor) != sizeof descriptor ||
        seccomp_notify_alloc(&question, &reply) != 0 ||
        seccomp_notify_receive(descriptor, question) != 0)
        _exit(1);
    reply->id = question->id;
    reply->val = kernel->landlock;
    reply->error = 0;
    reply->flags = 0;
    _exit(seccomp_notify_respond(descriptor, reply) != 0);
}

static void pretend_a_version(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int shared[2], descriptor;

    if (filter == NULL || pipe(shared) < 0)
        abort();
    if (syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL) == 0)
        supervise(shared);
    if (seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(landlock_create_ruleset), 1,
                         SCMP_A2(SCMP_CMP_EQ, LANDLOCK_CREATE_RULESET_VERSION, 0)) != 0 ||
        seccomp_load(filter) != 0)
        abort();
    descriptor = seccomp_notify_fd(filter);
    if (write(shared[1], &descriptor, sizeof descriptor) != sizeof descriptor)
        abort();
    seccomp_release(filter);
}

/* Not by libseccomp, which remembers what the kernel said when it first asked. */
static void refuse(unsigned call, unsigned first_argument, bool any_argument, int error)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first_argument, 0, any_argument ? 0 : 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof steps / sizeof *steps, steps};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        abort();
}

static void confined_by_another_kernel(void)
{
    if (kernel->landlock > 0 && kernel->landlock != REAL && plan.how != CONFINE_OFF)
        pretend_a_version();
    if (kernel->landlock < 0)
        refuse(SYS_landlock_create_ruleset, 0, true, -kernel->landlock);
    if (!kernel->seccomp) {
        refuse(SYS_seccomp, 0, true, ENOSYS);
        refuse(SYS_prctl, PR_SET_SECCOMP, false, EINVAL);
    }
    confine();
    report->errors[0][0] = message();
    report->errors[0][1] = reading_a_list();
    report->errors[1][0] = reading_outside();
    report->errors[1][1] = making_a_socket();
}

/* What was logged, as it should be: in `off` nothing. */
static bool is_said(enum config_confine how, bool lacks)
{
    const char *level = !lacks                   ? "level=info "
                        : how == CONFINE_REQUIRE ? "level=error "
                                                 : "level=warn ";
    const char *event = strstr(report->log, kernel->says);
    size_t length = strlen(level);

    if (how == CONFINE_OFF)
        return strstr(report->log, "confined") == NULL;
    return event != NULL && event - report->log >= (ptrdiff_t)length &&
           strncmp(event - length, level, length) == 0;
}

static bool is_right(enum config_confine how)
{
    const bool files = kernel->landlock > 1, lacks = !files || !kernel->seccomp;
    const bool on = how != CONFINE_OFF;

    return report->code == (lacks && how == CONFINE_REQUIRE ? EX_OSERR : EX_OK) &&
           is_said(how, lacks) && report->errors[0][0] == 0 && report->errors[0][1] == 0 &&
           report->errors[1][0] == (files && on ? EACCES : 0) &&
           report->errors[1][1] == (kernel->seccomp && on ? EPERM : 0);
}

static void what_the_kernel_lacks_is_said(void **state)
{
    static const enum config_confine hows[] = {CONFINE_TRY, CONFINE_REQUIRE, CONFINE_OFF};

    (void)state;
    for (int i = 0; i < KERNELS; i++) {
        for (int k = 0; k < 3; k++) {
            kernel = &kernels[i];
            plan.how = hows[k];
            assert_int_equal(run(confined_by_another_kernel, NULL), 0);
            if (!is_right(hows[k]))
                print_error("%s, %d: %d, %s", kernel->name, hows[k], report->code, report->log);
            assert_true(is_right(hows[k]));
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_kernel_lacks_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
