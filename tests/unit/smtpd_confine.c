/* Confinement, tried from inside: each thing that is refused and each that must go on, on the main
 * thread and on one of the pool, in children that are confined as smtpd is. */
#include "confined.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/random.h>
#include <uv.h>

/* What must go on. */

static int message_given_up(void)
{
    int error = attempt_open(place.tmp, "id", O_WRONLY | O_CREAT | O_EXCL);

    return error != 0 ? error : attempt_result(unlinkat(place.tmp, "id", 0));
}

static int writing_metrics(void)
{
    const char *fresh = at("metrics/fresh");
    int error = attempt_open(AT_FDCWD, fresh, O_WRONLY | O_CREAT | O_TRUNC);

    if (error == 0)
        error = attempt_open(AT_FDCWD, fresh, O_WRONLY | O_CREAT | O_TRUNC);
    return error != 0 ? error : attempt_result(rename(fresh, metrics));
}

static int asking_for_room(void)
{
    uint64_t bytes, files;

    return spool_room(&spool, QUEUE_STORE, &bytes, &files);
}

static void *return_argument(void *argument)
{
    return argument;
}

static int starting_a_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, return_argument, NULL);

    return error != 0 ? error : pthread_join(thread, NULL);
}

static int taking_memory(void)
{
    for (size_t size = 1; size < (64U << 20); size *= 2) {
        char *bytes = malloc(size), *more;
        if (bytes == NULL)
            return ENOMEM;
        memset(bytes, 1, size);
        more = realloc(bytes, size * 2);
        free(more != NULL ? more : bytes);
        if (more == NULL)
            return ENOMEM;
    }
    return 0;
}

static int taking_chances(void)
{
    char bytes[16];

    return attempt_result(getrandom(bytes, sizeof bytes, 0));
}

static int listening;

/* Somebody has connected before. */
static int serving(void)
{
    const int one = 1;
    int waiting = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), error;

    if (waiting < 0)
        return errno;
    error = setsockopt(waiting, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof one) < 0 ||
                    send(waiting, "220", 3, MSG_NOSIGNAL) != 3 || write(waiting, "\r\n", 2) != 2 ||
                    shutdown(waiting, SHUT_WR) < 0
                ? errno
                : 0;
    close(waiting);
    return error;
}

static const struct duty {
    const char *name;
    int (*try)(void); /* 0 or an errno value */
} duties[] = {
    {"a message", message},
    {"a message given up", message_given_up},
    {"metrics", writing_metrics},
    {"a list", reading_a_list},
    {"room on the disk", asking_for_room},
    {"a thread", starting_a_thread},
    {"memory", taking_memory},
    {"chance", taking_chances},
    {"serving", serving},
};

enum { DUTIES = sizeof duties / sizeof *duties };
_Static_assert(DUTIES + ATTEMPTS + ATTEMPT_CALLS <= REPORT_ERRORS, "they fit into the report");

/* Everything, on both threads. */

static void try_all(int thread)
{
    for (int i = 0; i < DUTIES; i++)
        report->errors[i][thread] = duties[i].try();
    for (int i = 0; i < ATTEMPTS; i++)
        if (!CONFINE_SANITIZED || i < ATTEMPTS - ATTEMPTS_OF_SANITIZERS)
            report->errors[DUTIES + i][thread] = attempts[i].try();
    for (int i = 0; i < ATTEMPT_CALLS; i++)
        report->errors[DUTIES + ATTEMPTS + i][thread] = attempt_call(i);
}

static void work_cb(uv_work_t *work)
{
    (void)work;
    try_all(1);
}

static void after_work_cb(uv_work_t *work, int status)
{
    (void)work, (void)status;
}

static void confined_on_both_threads(void)
{
    static uv_loop_t loop;
    static uv_work_t work;

    if (uv_loop_init(&loop) != 0)
        abort();
    confine();
    try_all(0);
    if (uv_queue_work(&loop, &work, work_cb, after_work_cb) != 0)
        abort();
    uv_run(&loop, UV_RUN_DEFAULT);
}

static int listener(const void *address, socklen_t length)
{
    int descriptor = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM, 0);

    assert_true(descriptor >= 0);
    assert_int_equal(bind(descriptor, address, length), 0);
    assert_int_equal(listen(descriptor, 8), 0);
    return descriptor;
}

/* Sockets as smtpd has them, with two clients that wait, and such as it does not have. */
static void open_sockets(int sockets[6])
{
    socklen_t length = sizeof place.server;

    place.server =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    place.local_server = (struct sockaddr_un){.sun_family = AF_UNIX};
    assert_true(snprintf(place.local_server.sun_path, sizeof place.local_server.sun_path, "%s",
                         outside("socket")) < (int)sizeof place.local_server.sun_path);
    sockets[0] = listening = listener(&place.server, sizeof place.server);
    sockets[1] = listener(&place.local_server, sizeof place.local_server);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&place.server, &length), 0);
    for (int i = 2; i < 4; i++) {
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(sockets[i], (struct sockaddr *)&place.server, sizeof place.server),
                         0);
    }
    sockets[4] = place.tcp = socket(AF_INET, SOCK_STREAM, 0);
    sockets[5] = place.local = socket(AF_UNIX, SOCK_STREAM, 0);
}

static void check_everything(void)
{
    static const char *const threads[] = {"the main thread", "the pool"};
    int wrong = 0;

    for (int thread = 0; thread < 2; thread++) {
        for (int i = 0; i < DUTIES; i++)
            if (report->errors[i][thread] != 0 && ++wrong > 0)
                print_error("%s on %s: %s\n", duties[i].name, threads[thread],
                            strerror(report->errors[i][thread]));
        for (int i = 0; i < ATTEMPTS; i++)
            if (!(CONFINE_SANITIZED && i >= ATTEMPTS - ATTEMPTS_OF_SANITIZERS) &&
                !attempt_is_refused(&attempts[i], report->errors[DUTIES + i][thread]) &&
                ++wrong > 0)
                print_error("%s on %s: %s\n", attempts[i].name, threads[thread],
                            strerror(report->errors[DUTIES + i][thread]));
        for (int i = 0; i < ATTEMPT_CALLS; i++)
            if (report->errors[DUTIES + ATTEMPTS + i][thread] != EPERM && ++wrong > 0)
                print_error("%s on %s: %s\n", attempt_calls[i].name, threads[thread],
                            strerror(report->errors[DUTIES + ATTEMPTS + i][thread]));
    }
    assert_int_equal(wrong, 0);
}

static void what_is_needed_works_and_nothing_else_does(void **state)
{
    int sockets[6];

    (void)state;
    open_sockets(sockets);
    assert_int_equal(run(confined_on_both_threads, NULL), 0);
    for (int i = 0; i < 6; i++)
        close(sockets[i]);
    assert_int_equal(report->code, EX_OK);
    assert_non_null(strstr(report->log, "level=info event=confined landlock="));
    check_everything();
}

/* That the calls above are refused by the filter, and not by the kernel for their nonsense. */
static void calls_at_large(void)
{
    for (int i = 0; i < ATTEMPT_CALLS; i++)
        report->errors[DUTIES + ATTEMPTS + i][0] = attempt_call(i);
}

static void without_confinement_the_kernel_judges(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* then EPERM may be the kernel's */
    assert_int_equal(run(calls_at_large, NULL), 0);
    for (int i = 0; i < ATTEMPT_CALLS; i++) {
        if (report->errors[DUTIES + ATTEMPTS + i][0] == EPERM)
            print_error("%s\n", attempt_calls[i].name);
        assert_int_not_equal(report->errors[DUTIES + ATTEMPTS + i][0], EPERM);
    }
}

/* Privileges, as the kernel shows them. */

static char status_text[8192];

static void read_status(pid_t child)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    file = fopen(path, "re");
    assert_non_null(file);
    status_text[fread(status_text, 1, sizeof status_text - 1, file)] = '\0';
    fclose(file);
}

static unsigned long long status_of(const char *name, int base_of_number)
{
    const char *line = strstr(status_text, name);

    assert_non_null(line);
    return strtoull(line + strlen(name), NULL, base_of_number);
}

static void no_privilege_is_left_or_to_be_had(void **state)
{
    unsigned long long kept = geteuid() == 0 ? 1U << CAP_DAC_OVERRIDE : 0;

    (void)state;
    assert_int_equal(run(confined_and_waiting, read_status), 0);
    assert_int_equal(status_of("\nNoNewPrivs:", 10), 1);
    assert_int_equal(status_of("\nSeccomp:", 10), 2);
    assert_int_equal(status_of("\nCapInh:", 16), 0);
    assert_int_equal(status_of("\nCapAmb:", 16), 0);
    assert_int_equal(status_of("\nCapPrm:", 16), kept);
    assert_int_equal(status_of("\nCapEff:", 16), kept);
    if (geteuid() == 0)
        assert_int_equal(status_of("\nCapBnd:", 16), 0);
    assert_int_equal(report->errors[0][0], 0);
    assert_true((strstr(report->log, "level=warn event=running_as_root") != NULL) ==
                (geteuid() == 0));
}

/* Root goes on writing into a spool that belongs to others. */
static void the_spool_may_belong_to_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchown(place.tmp, 61001, 61000), 0);
    assert_int_equal(fchown(place.new, 61001, 61000), 0);
    assert_int_equal(run(confined_and_waiting, read_status), 0);
    assert_int_equal(report->errors[0][0], 0);
}

/* The end of a process stays what it is. */

static void aborting(void)
{
    confine();
    abort();
}

static void an_assertion_still_ends_it(void **state)
{
    int status = run(aborting, NULL);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#ifdef __x86_64__
/* By the numbers of another architecture: 20 is getpid there, and writev here. */
static void calling_as_32_bits(void)
{
    long result;

    confine();
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L), "b"(0L), "c"(0L), "d"(0L) : "memory");
    report->errors[0][0] = (int)result;
}

static void other_numbers_end_it(void **state)
{
    int status = run(calling_as_32_bits, NULL);

    (void)state;
    assert_true(WIFSIGNALED(status));
}
#endif

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void confined_with_a_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
        abort();
    confine();
}

static void a_second_thread_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(run(confined_with_a_thread, NULL), 0);
    assert_int_equal(report->code, EX_OSERR);
    assert_non_null(strstr(report->log, "level=error event=not_confined what=threads"));
}

/* What the settings ask for. */

static bool is_planned(const struct confine_plan *made, const char *path)
{
    for (size_t i = 0; i < made->files_count; i++)
        if (made->files[i] != NULL && strcmp(made->files[i], path) == 0)
            return true;
    return false;
}

static void every_file_of_the_settings_is_planned(void **state)
{
    static struct config config;
    struct confine_plan made;

    (void)state;
    config = (struct config){.tls_cert = "cert.pem",
                             .tls_key = "key.pem",
                             .confine = CONFINE_TRY,
                             .site.domains.path = "domains",
                             .discard_domains.path = "discard",
                             .reject_senders.path = "senders",
                             .reject_recipients.path = "recipients",
                             .proxy_clients.path = "proxies",
                             .common.metrics_file = "metrics"};
    made = confine_plan(&config, &spool);
    assert_int_equal(made.how, CONFINE_TRY);
    assert_ptr_equal(made.spool, &spool);
    assert_string_equal(made.metrics_file, "metrics");
    assert_true(is_planned(&made, "cert.pem") && is_planned(&made, "key.pem"));
    assert_true(is_planned(&made, "domains") && is_planned(&made, "discard"));
    assert_true(is_planned(&made, "senders") && is_planned(&made, "recipients"));
    assert_true(is_planned(&made, "proxies"));
    assert_true(made.files_count < CONFINE_FILES_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_needed_works_and_nothing_else_does),
        TEST(without_confinement_the_kernel_judges),
        TEST(no_privilege_is_left_or_to_be_had),
        TEST(the_spool_may_belong_to_another_user),
        TEST(an_assertion_still_ends_it),
#ifdef __x86_64__
        TEST(other_numbers_end_it),
#endif
        TEST(a_second_thread_is_noticed),
        TEST(every_file_of_the_settings_is_planned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
