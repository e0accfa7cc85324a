/* The rules for files: see the header.
 *
 * A rule belongs to a directory, that is to its inode, and holds for whatever lies below it, now or
 * later. Never to a file: whoever renews a certificate or a list makes a new file. Only opening is
 * judged: what is open stays so, which is all that the log and the sockets need. Nor is stat, which
 * tells an intruder whether a file exists.
 *
 * The spool is named by the descriptors that are used anyway, so a queue that is a link or a mount of
 * its own needs no word here. In it smtpd has no right to read, for it never does: mail that lies
 * there is safe from whoever takes smtpd over. He can remove it, as a commit that failed must. */
#include "smtpd/landlock.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What headers older than the kernel lack. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#ifndef LANDLOCK_ACCESS_NET_BIND_TCP
#define LANDLOCK_ACCESS_NET_BIND_TCP    (1ULL << 0)
#define LANDLOCK_ACCESS_NET_CONNECT_TCP (1ULL << 1)
#endif
#ifndef LANDLOCK_SCOPE_SIGNAL
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0)
#define LANDLOCK_SCOPE_SIGNAL               (1ULL << 1)
#endif

/* Versions of the interface, by what each brought. Before REFER every rename from one directory into
 * another is refused, and with it every message. */
enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL_DEV = 5, ABI_SCOPE = 6 };

/* struct landlock_ruleset_attr as it has become: an older kernel takes it as long as what it does
 * not know is zero. */
struct ruleset {
    uint64_t files, network, scopes; /* what is refused unless a rule allows it */
};

enum { LINKS_MAX = 40 }; /* as many as the kernel follows */

static struct ruleset ruleset_for(int abi)
{
    struct ruleset ruleset = {
        .files = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                 LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER,
    };

    if (abi >= ABI_TRUNCATE)
        ruleset.files |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= ABI_NET)
        ruleset.network = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP;
    if (abi >= ABI_IOCTL_DEV)
        ruleset.files |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    if (abi >= ABI_SCOPE)
        ruleset.scopes = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL;
    return ruleset;
}

/* A ruleset under construction. */
struct rules {
    int descriptor;
    uint64_t handled; /* rights that the kernel knows */
    const struct spool *spool;
    int error; /* the first */
};

static void allow(struct rules *rules, int directory, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights & rules->handled,
                                              .parent_fd = directory};

    if (syscall(SYS_landlock_add_rule, rules->descriptor, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) <
            0 &&
        rules->error == 0)
        rules->error = errno;
}

/* Whether the mail lies somewhere below. */
static bool holds_spool(int directory, const struct spool *spool)
{
    int at = dup(spool->directories[QUEUE_STORE][QUEUE_NEW]);
    struct stat wanted, seen, before = {0};
    bool holds = false;

    if (at < 0 || fstat(directory, &wanted) != 0)
        goto out;
    /* The root directory is its own parent. */
    while (fstat(at, &seen) == 0 &&
           (seen.st_dev != before.st_dev || seen.st_ino != before.st_ino)) {
        int parent;
        holds = seen.st_dev == wanted.st_dev && seen.st_ino == wanted.st_ino;
        parent = holds ? -1 : openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0)
            break;
        close(at);
        at = parent;
        before = seen;
    }
out:
    if (at >= 0)
        close(at);
    return holds;
}

/* A directory that is not there, or that we may not enter, is of no use later either: whoever needs
 * it says so then, as without confinement. */
static void allow_directory(struct rules *rules, const char *path, uint64_t rights)
{
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES && errno != ELOOP &&
            rules->error == 0)
            rules->error = errno;
        return;
    }
    if (holds_spool(directory, rules->spool))
        log_warn((rights & LANDLOCK_ACCESS_FS_READ_FILE) != 0 ? "spool_readable" : "spool_writable",
                 LOG_TEXT("directory", path));
    allow(rules, directory, rights);
    close(directory);
}

static void allow_spool(struct rules *rules, const struct spool *spool)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        allow(rules, spool->directories[queue][QUEUE_TMP],
              LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                  LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REFER);
        allow(rules, spool->directories[queue][QUEUE_NEW],
              LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                  LANDLOCK_ACCESS_FS_REFER);
    }
}

static void allow_metrics(struct rules *rules, const char *path)
{
    char directory[PATH_MAX];

    if (snprintf(directory, sizeof directory, "%s", path) < (int)sizeof directory)
        allow_directory(rules, dirname(directory),
                        LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
                            LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE);
}

/* A directory that is a link is there to be pointed elsewhere: …/current at the next release,
 * /run/secrets at /run/secrets.d/8. What it will point at then most likely lies beside what it points
 * at now; unless that is the root directory or stands in it, where all of /etc or /usr would lie
 * beside it. */
static void allow_beside_target(struct rules *rules, const char *directory)
{
    char target[PATH_MAX], *holder;

    if (readlink(directory, target, sizeof target) < 0 || realpath(directory, target) == NULL)
        return;
    holder = dirname(target);
    if (strrchr(holder, '/') != holder)
        allow_directory(rules, holder, LANDLOCK_ACCESS_FS_READ_FILE);
}

/* Every directory on the way from the path as written to the file: certbot's
 * live/example.org/privkey.pem is a link to ../../archive/example.org/privkey7.pem, which is ...8.pem
 * after the next renewal. */
static void allow_file(struct rules *rules, const char *file)
{
    char path[PATH_MAX], copy[PATH_MAX], target[PATH_MAX], *directory;
    int length = snprintf(path, sizeof path, "%s", file);

    for (int links = 0; links < LINKS_MAX && length < (int)sizeof path; links++) {
        ssize_t size;
        /* NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.strcpy): of one size */
        strcpy(copy, path);
        directory = dirname(copy);
        allow_directory(rules, directory, LANDLOCK_ACCESS_FS_READ_FILE);
        allow_beside_target(rules, directory);
        size = readlink(path, target, sizeof target);
        if (size < 0 || size == (ssize_t)sizeof target)
            return;
        target[size] = '\0';
        length = target[0] == '/' ? snprintf(path, sizeof path, "%s", target)
                                  : snprintf(path, sizeof path, "%s/%s", directory, target);
    }
}

static void allow_plan(struct rules *rules, const struct confine_plan *plan)
{
    allow_spool(rules, plan->spool);
    if (plan->metrics_file != NULL)
        allow_metrics(rules, plan->metrics_file);
    for (size_t i = 0; i < plan->files_count; i++)
        if (plan->files[i] != NULL)
            allow_file(rules, plan->files[i]);
#if CONFINE_SANITIZED
    /* LeakSanitizer looks at every thread and mapping of ours, at the end. */
    allow_directory(rules, "/proc/self",
                    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
#endif
}

const char *landlock_apply(const struct confine_plan *plan, int *abi)
{
    struct ruleset ruleset;
    struct rules rules = {.spool = plan->spool};

    *abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (*abi < 0)
        return errno == ENOSYS       ? "the kernel was built without it"
               : errno == EOPNOTSUPP ? "it is not among the kernel's lsm= at boot"
                                     : log_errno_text(errno);
    if (*abi < ABI_REFER)
        return "the kernel's version of it refuses to rename between directories";
    ruleset = ruleset_for(*abi);
    rules.handled = ruleset.files;
    rules.descriptor = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
    if (rules.descriptor < 0)
        return log_errno_text(errno);
    allow_plan(&rules, plan);
    if (rules.error == 0 && syscall(SYS_landlock_restrict_self, rules.descriptor, 0) < 0)
        rules.error = errno;
    close(rules.descriptor);
    return rules.error != 0 ? log_errno_text(rules.error) : NULL;
}
