/* Preloaded into smtpd: tries from inside what a confined smtpd must be refused (attempts.h), once on
 * the loop, when somebody is accepted, and once in the thread pool, when a message is committed.
 *
 * CONFINED_REPORT is a file that gets a line for each: `loop right 13 read outside`, where 13 is the
 * errno value; `wrong` where that was not as it should be. CONFINED_SPOOL, CONFINED_OUTSIDE,
 * CONFINED_LIST and CONFINED_PORT say where it is tried. */
#include "attempts.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int report = -1;

static int spool_directory(const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/store/%s", getenv("CONFINED_SPOOL"), name);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

__attribute__((constructor)) static void begin(void)
{
    snprintf(place.outside, sizeof place.outside, "%s", getenv("CONFINED_OUTSIDE"));
    snprintf(place.list, sizeof place.list, "%s", getenv("CONFINED_LIST"));
    place.tmp = spool_directory("tmp");
    place.new = spool_directory("new");
    place.failed = spool_directory("failed");
    place.tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    place.local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    place.server = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_port = htons((in_port_t)atoi(getenv("CONFINED_PORT"))),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    place.local_server.sun_family = AF_UNIX;
    snprintf(place.local_server.sun_path, sizeof place.local_server.sun_path, "%.90s/socket",
             place.outside);
    report = open(getenv("CONFINED_REPORT"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    place.pipe = report;
    if (place.tmp < 0 || place.new < 0 || place.failed < 0 || report < 0)
        abort();
}

static void tell(const char *where, bool right, int error, const char *name)
{
    char line[128];
    int length =
        snprintf(line, sizeof line, "%s %s %d %s\n", where, right ? "right" : "wrong", error, name);

    if (write(report, line, (size_t)length) != length)
        abort();
}

static void try_all(const char *where)
{
    int last = dlsym(RTLD_DEFAULT, "__asan_init") ? ATTEMPTS - ATTEMPTS_OF_SANITIZERS : ATTEMPTS;

    for (int i = 0; i < last; i++) {
        int error = attempts[i].try();
        tell(where, attempt_is_refused(&attempts[i], error), error, attempts[i].name);
    }
    for (int i = 0; i < ATTEMPT_CALLS; i++) {
        int error = attempt_call(i);
        tell(where, error == EPERM, error, attempt_calls[i].name);
    }
    tell(where, true, 0, "done");
}

int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags)
{
    static atomic_flag tried = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&tried))
        try_all("loop");
    return REAL(accept4)(descriptor, address, length, flags);
}

/* Not the attempts' own renames, which come before the commit's. */
int renameat(int from, const char *old, int to, const char *new)
{
    static atomic_flag tried = ATOMIC_FLAG_INIT;

    if (strcmp(old, new) == 0 && strcmp(old, "there") != 0 && !atomic_flag_test_and_set(&tried))
        try_all("pool");
    return REAL(renameat)(from, old, to, new);
}
