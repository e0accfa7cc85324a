/* Linked into whatever is built with COVERAGE=1, so that its counters are written in three cases in
 * which they would be lost: libgcov writes them when exit is called, into a file for each object,
 * under a lock.
 *
 * - A child of a unit test, and a program that was told twice to stop, call _exit.
 * - A confined smtpd may not open those files: a rule more lets it, before the ruleset is enforced.
 * - Nor may it lock them, and several that end at once would spoil them: a row more in the filter.
 *
 * All else of the confinement is what it is, so that its tests mean the same here. */
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void __gcov_dump(void);

/* By the linker's --wrap: what is called in place of a function, and the function. Only smtpd is
 * linked with libseccomp. */
long __wrap_syscall(long number, ...);
long __real_syscall(long number, ...);
int __wrap_seccomp_load(const scmp_filter_ctx filter);
__attribute__((weak)) int __real_seccomp_load(const scmp_filter_ctx filter);
extern __typeof__(seccomp_rule_add) seccomp_rule_add __attribute__((weak));

/* What libgcov has to say does not belong into a program's log. */
__attribute__((constructor)) static void begin(void)
{
    setenv("GCOV_ERROR_FILE", COVERAGE_DIRECTORY "/errors", 0);
}

__attribute__((noreturn)) void _exit(int code)
{
    __gcov_dump();
    for (;;)
        __real_syscall(SYS_exit_group, code);
}

static void allow_counters(int ruleset)
{
    const int directory = open(COVERAGE_DIRECTORY, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct landlock_path_beneath_attr rule = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                          LANDLOCK_ACCESS_FS_MAKE_REG,
        .parent_fd = directory};

    __real_syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(directory);
}

long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_landlock_restrict_self)
        allow_counters((int)arguments[0]);
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

int __wrap_seccomp_load(const scmp_filter_ctx filter)
{
    seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_SETLKW, 0));
    return __real_seccomp_load(filter);
}
