/* Accepting: whoever cannot be accepted waits, nobody is closed, and nothing runs in circles. The
 * stop: nobody is refused or reset who could be served, by us or by another process. */
#include "smtpd/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CLIENTS = 100, RETRY_MS = 250 };

static uv_loop_t loop;
static struct listener listener, other;
static struct sockaddr_in address;
static int accepted[CLIENTS], clients[CLIENTS];
static int accepted_count, accepted_by_other, refused_count, call_count, closed_count;
static bool no_memory;

/* What accept4 is to fail with: each once, the last one again and again where `lasting`. */
static int errors[32];
static size_t error_count, errors_used;
static bool lasting;

/* Stands before the C library's, whose parameter is not quite of this type. */
int scripted_accept4(int descriptor, struct sockaddr *peer, socklen_t *length,
                     int flags) __asm__("accept4");
int scripted_accept4(int descriptor, struct sockaddr *peer, socklen_t *length, int flags)
{
    call_count++;
    if (errors_used == error_count)
        return (int)syscall(SYS_accept4, descriptor, peer, length, flags);
    errno = errors[errors_used];
    errors_used += !(lasting && errors_used + 1 == error_count);
    return -1;
}

/* As on a kernel where a filter takes a privilege. */
static bool no_filters;

int scripted_setsockopt(int descriptor, int level, int option, const void *value,
                        socklen_t length) __asm__("setsockopt");
int scripted_setsockopt(int descriptor, int level, int option, const void *value, socklen_t length)
{
    if (no_filters && level == SOL_SOCKET && option == SO_ATTACH_FILTER) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_setsockopt, descriptor, level, option, value, length);
}

static void fail_with(int error, bool always)
{
    errors[0] = error;
    error_count = 1;
    errors_used = 0;
    lasting = always;
}

static void fail_no_more(void)
{
    error_count = errors_used = 0;
}

static bool connect_cb(void *owner, int descriptor, const struct sockaddr *peer)
{
    const struct sockaddr_in *from = (const struct sockaddr_in *)(const void *)peer;

    assert_true(owner == &listener || owner == &other);
    assert_int_equal(from->sin_family, AF_INET);
    assert_int_equal(ntohl(from->sin_addr.s_addr), INADDR_LOOPBACK);
    if (no_memory) {
        refused_count++;
        close(descriptor);
        return false;
    }
    assert_true(accepted_count < CLIENTS);
    accepted[accepted_count++] = descriptor;
    accepted_by_other += owner == &other;
    return true;
}

static void closed_cb(void *owner)
{
    assert_true(((struct listener *)owner)->closed);
    closed_count++;
}

/* Leaves a port that was free a moment ago in `address`. */
static void find_port(void)
{
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);

    address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(descriptor, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&address, &length), 0);
    close(descriptor);
}

static void start(struct listener *which, bool reuse_port)
{
    char text[32], *items[] = {text};
    struct config config = {
        .common = {.ready_fd = -1},
        .port = -1,
        .listen = {.items = items, .count = 1},
        .reuseport = reuse_port,
    };

    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    *which = (struct listener){.connect_cb = connect_cb, .closed_cb = closed_cb, .owner = which};
    assert_int_equal(listener_start(which, &loop, &config), 0);
}

static int begin_alone(void **state)
{
    (void)state;
    accepted_count = accepted_by_other = refused_count = call_count = closed_count = 0;
    no_memory = no_filters = false;
    fail_no_more();
    other = (struct listener){0};
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    assert_int_equal(uv_loop_init(&loop), 0);
    find_port();
    return 0;
}

static int begin(void **state)
{
    begin_alone(state);
    start(&listener, false);
    return 0;
}

static void hang_up(void)
{
    for (int i = 0; i < accepted_count; i++)
        close(accepted[i]);
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i] >= 0)
            close(clients[i]);
}

static int end(void **state)
{
    (void)state;
    fail_no_more();
    if (!listener.closing)
        listener_close(&listener);
    if (other.owner != NULL && !other.closing)
        listener_close(&other);
    hang_up();
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void connect_clients(int first, int count)
{
    for (int i = first; i < first + count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&address, sizeof address), 0);
    }
}

static void run_until_accepted(int count)
{
    while (accepted_count < count)
        uv_run(&loop, UV_RUN_ONCE);
}

static void run_until_paused(bool paused)
{
    while (listener.paused != paused)
        uv_run(&loop, UV_RUN_ONCE);
}

static int turned_away(void)
{
    int count = 0;
    char byte;

    for (int i = 0; i < CLIENTS; i++)
        count += clients[i] >= 0 && (recv(clients[i], &byte, 1, MSG_DONTWAIT) == 0 ||
                                     (errno != EAGAIN && errno != EWOULDBLOCK));
    return count;
}

/* More than are accepted in one turn. */
static void who_waits_is_accepted(void **state)
{
    (void)state;
    connect_clients(0, CLIENTS);
    run_until_accepted(CLIENTS);
    assert_false(listener.paused);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(fcntl(accepted[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

static void a_turn_is_bounded(void **state)
{
    int turns = 0;

    (void)state;
    connect_clients(0, CLIENTS);
    for (; accepted_count < CLIENTS; turns++) {
        int before = accepted_count;
        uv_run(&loop, UV_RUN_ONCE);
        assert_in_range(accepted_count - before, 0, 64);
    }
    assert_true(turns >= 2);
}

static void what_broke_while_it_waited_is_passed_over(void **state)
{
    static const int passed_over[] = {ECONNABORTED, EPROTO,     EINTR,        ENETDOWN,
                                      ENONET,       EHOSTDOWN,  EHOSTUNREACH, ENETUNREACH,
                                      EOPNOTSUPP,   ENOPROTOOPT};

    (void)state;
    memcpy(errors, passed_over, sizeof passed_over);
    error_count = sizeof passed_over / sizeof passed_over[0];
    errors_used = 0;
    lasting = false;
    connect_clients(0, 2);
    run_until_accepted(2);
    assert_int_equal(errors_used, error_count);
    assert_false(listener.paused);
}

static void who_comes_when_descriptors_are_out_waits(void **state)
{
    static const int exhausted[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};

    (void)state;
    for (int i = 0; i < 4; i++) {
        fail_with(exhausted[i], true);
        connect_clients(i, 1);
        run_until_paused(true);
        assert_int_equal(accepted_count, i);
        assert_int_equal(turned_away(), 0);
        fail_no_more();
        run_until_accepted(i + 1);
        run_until_paused(false);
    }
}

/* An errno that nobody foresaw is no reason to turn in circles. */
static void a_pause_is_quiet(void **state)
{
    uint64_t start = uv_hrtime(), elapsed_ms;

    (void)state;
    fail_with(EBADF, true);
    connect_clients(0, 1);
    for (int i = 0; i < 8; i++)
        uv_run(&loop, UV_RUN_ONCE);
    assert_true(listener.paused);
    elapsed_ms = (uv_hrtime() - start) / 1000000;
    assert_in_range(call_count, 1, elapsed_ms / RETRY_MS + 1);
}

/* And not only at the next try. */
static void a_connection_that_ends_lets_in_the_next(void **state)
{
    (void)state;
    fail_with(EMFILE, true);
    connect_clients(0, 1);
    run_until_paused(true);
    fail_no_more();
    uv_timer_stop(&listener.retry);
    listener_resume(&listener);
    run_until_accepted(1);
    assert_true(listener.paused);
}

/* A retry that comes before the sockets were tried says nothing of them: still one pause. */
static void what_was_just_resumed_is_not_over(void **state)
{
    (void)state;
    fail_with(EMFILE, true);
    connect_clients(0, 1);
    run_until_paused(true);
    listener_resume(&listener);
    listener.retry.timer_cb(&listener.retry);
    assert_true(listener.paused);
    fail_no_more();
    run_until_accepted(1);
    run_until_paused(false);
}

static void without_memory_the_next_one_waits(void **state)
{
    (void)state;
    no_memory = true;
    connect_clients(0, 10);
    run_until_paused(true);
    assert_int_equal(refused_count, 1);
    no_memory = false;
    run_until_accepted(9);
    assert_int_equal(turned_away(), 1);
    run_until_paused(false);
}

static void the_stop_leaves_nobody_waiting(void **state)
{
    (void)state;
    connect_clients(0, CLIENTS);
    assert_int_equal(listener_withdraw(&listener), 0);
    listener_close(&listener);
    assert_int_equal(accepted_count, CLIENTS);
    assert_int_equal(closed_count, 1);
    assert_true(listener.closed);
    clients[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(clients[0], (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
}

static void the_stop_waits_for_descriptors(void **state)
{
    (void)state;
    fail_with(EMFILE, true);
    connect_clients(0, 1);
    run_until_paused(true);
    listener_withdraw(&listener);
    listener_close(&listener);
    assert_int_equal(closed_count, 0);
    assert_int_equal(turned_away(), 0);
    fail_no_more();
    run_until_accepted(1);
    assert_int_equal(closed_count, 1);
}

static void the_stop_does_not_wait_for_nobody(void **state)
{
    (void)state;
    fail_with(EMFILE, true);
    listener_close(&listener);
    assert_int_equal(closed_count, 1);
}

static void the_stop_does_not_wait_for_ever(void **state)
{
    (void)state;
    fail_with(EMFILE, true);
    connect_clients(0, 1);
    listener_close(&listener);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(closed_count, 1);
    assert_int_equal(accepted_count, 0);
}

static void begin_to_connect(int count)
{
    for (int i = 0; i < count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(clients[i], (struct sockaddr *)&address, sizeof address) != 0)
            assert_int_equal(errno, EINPROGRESS);
    }
}

/* The kernel chooses a socket for each connection, so some are meant for ours. */
static void newcomers_go_to_another_who_shares_the_port(void **state)
{
    enum { NEWCOMERS = 24 };

    (void)state;
    start(&listener, true);
    start(&other, true);
    assert_true(listener_withdraw(&listener) > 0);
    begin_to_connect(NEWCOMERS);
    listener_close(&listener);
    assert_int_equal(closed_count, 1);
    while (accepted_count < NEWCOMERS && turned_away() == 0) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    assert_int_equal(turned_away(), 0);
    assert_int_equal(accepted_by_other, NEWCOMERS);
}

static void newcomers_go_to_another_where_filters_are_not_to_be_had(void **state)
{
    no_filters = true;
    newcomers_go_to_another_who_shares_the_port(state);
}

/* A client that starts with the most hops there are comes through, as one does whose handshake was
 * under way, and his connection must not keep the demand. */
static void who_comes_through_all_the_same_is_served(void **state)
{
    int most = 255, usual = 64;
    char byte = 0;

    (void)state;
    no_filters = true;
    start(&listener, true);
    listener_withdraw(&listener);
    clients[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(setsockopt(clients[0], IPPROTO_IP, IP_TTL, &most, sizeof most), 0);
    assert_int_equal(connect(clients[0], (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(clients[0], IPPROTO_IP, IP_TTL, &usual, sizeof usual), 0);
    assert_int_equal(write(clients[0], "x", 1), 1);
    run_until_accepted(1);
    while (read(accepted[0], &byte, 1) < 0 && errno == EAGAIN)
        uv_sleep(1);
    assert_int_equal(byte, 'x');
    listener_close(&listener);
}

/* Who was there before is served here. */
static void who_waits_is_accepted_while_newcomers_go_elsewhere(void **state)
{
    (void)state;
    start(&listener, true);
    connect_clients(0, CLIENTS);
    start(&other, true);
    listener_withdraw(&listener);
    run_until_accepted(CLIENTS);
    assert_int_equal(accepted_by_other, 0);
    assert_false(listener.closed);
    listener_close(&listener);
}

static void who_waits_on_an_inherited_socket_waits_for_the_next_process(void **state)
{
    int held = socket(AF_INET, SOCK_STREAM, 0), input = dup(STDIN_FILENO);

    (void)state;
    assert_int_equal(bind(held, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(held, CLIENTS), 0);
    assert_int_equal(dup2(held, STDIN_FILENO), STDIN_FILENO);
    start(&listener, true);
    connect_clients(0, 1);
    run_until_accepted(1);

    connect_clients(1, 1);
    assert_int_equal(listener_withdraw(&listener), 0);
    listener_close(&listener);
    assert_int_equal(closed_count, 1);
    assert_int_equal(accepted_count, 1);
    connect_clients(2, 1);
    for (int i = 0; i < 2; i++) {
        accepted[accepted_count] = accept(held, NULL, NULL);
        assert_true(accepted[accepted_count++] >= 0);
    }
    dup2(input, STDIN_FILENO);
    close(input);
    close(held);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, begin, end)
#define ALONE(name) cmocka_unit_test_setup_teardown(name, begin_alone, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_waits_is_accepted),
        TEST(a_turn_is_bounded),
        TEST(what_broke_while_it_waited_is_passed_over),
        TEST(who_comes_when_descriptors_are_out_waits),
        TEST(a_pause_is_quiet),
        TEST(a_connection_that_ends_lets_in_the_next),
        TEST(without_memory_the_next_one_waits),
        TEST(what_was_just_resumed_is_not_over),
        TEST(without_memory_the_next_one_waits),
        TEST(the_stop_leaves_nobody_waiting),
        TEST(the_stop_waits_for_descriptors),
        TEST(the_stop_does_not_wait_for_nobody),
        TEST(the_stop_does_not_wait_for_ever),
        ALONE(newcomers_go_to_another_who_shares_the_port),
        ALONE(newcomers_go_to_another_where_filters_are_not_to_be_had),
        ALONE(who_comes_through_all_the_same_is_served),
        ALONE(who_waits_is_accepted_while_newcomers_go_elsewhere),
        ALONE(who_waits_on_an_inherited_socket_waits_for_the_next_process),
    };
    unsetenv("LISTEN_FDS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
