/* Where smtpd listens: what it takes for an inherited socket, and what it opens itself. */
#include "smtpd/places.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum { FIRST_PASSED = 3, OPENED_MAX = 8 };

static struct {
    int descriptor;
    bool inherited;
} opened[OPENED_MAX];
static size_t opened_count;
static int saved[FIRST_PASSED + 2];

static int opened_cb(void *owner, int descriptor, bool inherited)
{
    assert_ptr_equal(owner, opened);
    assert_true(opened_count < OPENED_MAX);
    opened[opened_count].descriptor = descriptor;
    opened[opened_count++].inherited = inherited;
    return 0;
}

static int open_places(bool reuse_port, const char *place)
{
    char text[64], *items[] = {text};
    const struct config config = {
        .common = {.ready_fd = -1},
        .port = -1,
        .listen = {.items = items, .count = 1},
        .reuseport = reuse_port,
    };

    snprintf(text, sizeof text, "%s", place);
    return places_open(&config, opened_cb, opened);
}

static int option(int descriptor, int name)
{
    int value = 0;
    socklen_t length = sizeof value;

    assert_int_equal(getsockopt(descriptor, SOL_SOCKET, name, &value, &length), 0);
    return value;
}

static unsigned port_of(int descriptor)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;

    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&name, &length), 0);
    return ntohs(name.sin_port);
}

/* What may be handed over; each returns a descriptor. */

static int unbound(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}

static int bound(void)
{
    const struct sockaddr_in any_port = {.sin_family = AF_INET,
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = unbound();

    assert_int_equal(bind(descriptor, (const struct sockaddr *)&any_port, sizeof any_port), 0);
    return descriptor;
}

static int listening(void)
{
    int descriptor = bound();

    assert_int_equal(listen(descriptor, 1), 0);
    return descriptor;
}

static int connected(void)
{
    int other = listening(), descriptor = unbound();
    struct sockaddr_in name;
    socklen_t length = sizeof name;

    assert_int_equal(getsockname(other, (struct sockaddr *)&name, &length), 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&name, length), 0);
    close(descriptor);
    descriptor = accept(other, NULL, NULL);
    assert_true(descriptor >= 0);
    close(other);
    return descriptor;
}

/* Its peer has reset it. */
static int broken(void)
{
    int other = listening(), descriptor = unbound();
    struct sockaddr_in name;
    socklen_t length = sizeof name;

    assert_int_equal(getsockname(other, (struct sockaddr *)&name, &length), 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&name, length), 0);
    close(other);
    return descriptor;
}

static int datagrams(void)
{
    const struct sockaddr_in any_port = {.sin_family = AF_INET,
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);

    assert_int_equal(bind(descriptor, (const struct sockaddr *)&any_port, sizeof any_port), 0);
    return descriptor;
}

/* The kernel names it (unix(7), "Autobind"). */
static int listening_locally(void)
{
    const struct sockaddr_un unnamed = {.sun_family = AF_UNIX};
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_int_equal(bind(descriptor, (const struct sockaddr *)&unnamed, sizeof unnamed.sun_family),
                     0);
    assert_int_equal(listen(descriptor, 1), 0);
    return descriptor;
}

static int no_socket(void)
{
    return open("/dev/null", O_RDONLY);
}

static int begin(void **state)
{
    (void)state;
    opened_count = 0;
    for (int i = 0; i < FIRST_PASSED + 2; i++)
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 100);
    dup2(fileno(stderr), FIRST_PASSED); /* so that nothing else is opened there */
    dup2(fileno(stderr), FIRST_PASSED + 1);
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < opened_count; i++)
        close(opened[i].descriptor);
    for (int i = 0; i < FIRST_PASSED + 2; i++) {
        close(i);
        if (saved[i] >= 0) {
            dup2(saved[i], i);
            close(saved[i]);
        }
    }
    return 0;
}

static void hand_over(int descriptor, int as)
{
    assert_int_equal(dup2(descriptor, as), as);
    close(descriptor);
}

static void what_may_be_passed(void **state)
{
    static const struct {
        int (*make)(void);
        int want;
    } rows[] = {
        {listening, EX_OK},
        {bound, EX_OK},
        {unbound, EX_CONFIG},
        {connected, EX_CONFIG},
        {broken, EX_CONFIG},
        {datagrams, EX_CONFIG},
        {listening_locally, EX_CONFIG},
        {no_socket, EX_CONFIG},
    };

    (void)state;
    setenv("LISTEN_FDS", "2", 1);
    hand_over(listening(), FIRST_PASSED);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        opened_count = 0;
        hand_over(rows[i].make(), FIRST_PASSED + 1);
        assert_int_equal(open_places(false, "127.0.0.1:1"), rows[i].want);
        assert_int_equal(opened_count, rows[i].want == EX_OK ? 2 : 1);
        for (size_t each = 0; each < opened_count; each++) {
            assert_int_equal(opened[each].descriptor, FIRST_PASSED + (int)each);
            assert_true(opened[each].inherited);
            assert_true(option(opened[each].descriptor, SO_ACCEPTCONN));
        }
    }
    close(FIRST_PASSED + 1);
    opened_count = 0;
    assert_int_equal(open_places(false, "127.0.0.1:1"), EX_CONFIG);
}

static void numbers_that_make_no_sense(void **state)
{
    static const char *const texts[] = {
        "-1", "x", "1x", " 1", "+1", "1001", "99999999999999999999"};

    (void)state;
    hand_over(listening(), FIRST_PASSED);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        setenv("LISTEN_FDS", texts[i], 1);
        assert_int_equal(open_places(false, "127.0.0.1:0"), EX_CONFIG);
        assert_int_equal(opened_count, 0);
    }
}

static void what_is_not_for_us_is_left_alone(void **state)
{
    char text[32];

    (void)state;
    hand_over(listening(), FIRST_PASSED);
    setenv("LISTEN_FDS", "1", 1);
    snprintf(text, sizeof text, "%ld", (long)getppid());
    setenv("LISTEN_PID", text, 1);
    assert_int_equal(open_places(false, "127.0.0.1:0"), EX_OK);
    assert_int_equal(opened_count, 1);
    assert_false(opened[0].inherited);

    snprintf(text, sizeof text, "%ld", (long)getpid());
    setenv("LISTEN_PID", text, 1);
    assert_int_equal(open_places(false, "127.0.0.1:0"), EX_OK);
    assert_true(opened[1].inherited);
}

static void a_socket_that_listens_is_taken_from_descriptor_0(void **state)
{
    unsigned port;

    (void)state;
    hand_over(listening(), STDIN_FILENO);
    port = port_of(STDIN_FILENO);
    assert_int_equal(open_places(false, "127.0.0.1:1"), EX_OK);
    assert_int_equal(opened_count, 1);
    assert_true(opened[0].inherited);
    assert_true(opened[0].descriptor > STDERR_FILENO);
    assert_int_equal(port_of(opened[0].descriptor), port);
    /* The number is not free for the next file, and not the socket's any more. */
    assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
    assert_int_equal(isatty(STDIN_FILENO), 0);
    assert_int_equal(getsockname(STDIN_FILENO, (struct sockaddr *)&(struct sockaddr_in){0},
                                 &(socklen_t){sizeof(struct sockaddr_in)}),
                     -1);
}

/* One that does not listen may be anything: a terminal, or the client of a program that inetd
 * starts. */
static void what_does_not_listen_is_left_on_descriptor_0(void **state)
{
    static int (*const make[])(void) = {bound, unbound, connected, datagrams, no_socket};

    (void)state;
    for (size_t i = 0; i < sizeof make / sizeof make[0]; i++) {
        hand_over(make[i](), STDIN_FILENO);
        assert_int_equal(open_places(false, "127.0.0.1:0"), EX_OK);
        assert_int_equal(opened_count, i + 1);
        assert_false(opened[i].inherited);
    }
    hand_over(listening_locally(), STDIN_FILENO);
    assert_int_equal(open_places(false, "127.0.0.1:0"), EX_CONFIG);
}

static void descriptor_0_comes_behind_those_of_listen_fds(void **state)
{
    (void)state;
    hand_over(listening(), STDIN_FILENO);
    hand_over(listening(), FIRST_PASSED);
    setenv("LISTEN_FDS", "1", 1);
    assert_int_equal(open_places(false, "127.0.0.1:1"), EX_OK);
    assert_int_equal(opened_count, 1);
    assert_int_equal(opened[0].descriptor, FIRST_PASSED);
}

static void a_port_is_shared_when_all_want_it(void **state)
{
    char place[32];

    (void)state;
    assert_int_equal(open_places(true, "127.0.0.1:0"), EX_OK);
    snprintf(place, sizeof place, "127.0.0.1:%u", port_of(opened[0].descriptor));
    assert_int_equal(open_places(false, place), EX_UNAVAILABLE);
    assert_int_equal(open_places(true, place), EX_OK);
    assert_int_equal(opened_count, 2);
}

static void a_socket_of_our_own(void **state)
{
    (void)state;
    assert_int_equal(open_places(false, "127.0.0.1:0"), EX_OK);
    assert_true(option(opened[0].descriptor, SO_ACCEPTCONN));
    assert_true(option(opened[0].descriptor, SO_REUSEADDR));
    assert_false(option(opened[0].descriptor, SO_REUSEPORT));
    assert_int_equal(option(opened[0].descriptor, SO_SNDBUF), 64 * 1024);
    assert_true(fcntl(opened[0].descriptor, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(opened[0].descriptor, F_GETFD) & FD_CLOEXEC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_may_be_passed),
        TEST(numbers_that_make_no_sense),
        TEST(what_is_not_for_us_is_left_alone),
        TEST(a_socket_that_listens_is_taken_from_descriptor_0),
        TEST(what_does_not_listen_is_left_on_descriptor_0),
        TEST(descriptor_0_comes_behind_those_of_listen_fds),
        TEST(a_port_is_shared_when_all_want_it),
        TEST(a_socket_of_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
