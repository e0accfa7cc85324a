/* What common/pgconn.h does without a server: pauses, lists of hosts, connection strings, and an
 * orderly end in the middle of trying. It is tested here because the tests of common/ do not link
 * libpq. */
#include "common/log.h"
#include "common/pgconn.h"
#include "common/pgtarget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void pauses_double_up_to_ten_seconds(void **state)
{
    (void)state;
    static const unsigned want[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    for (unsigned i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(pgconn_backoff(i, 0), want[i]);
        for (uint32_t random = 0; random < 100000; random += 7) {
            unsigned got = pgconn_backoff(i, random);
            assert_in_range(got, want[i] / 2, want[i]);
        }
    }
    assert_in_range(pgconn_backoff(4000000000, UINT32_MAX), 5000, 10000);
}

static void entries_of_lists(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        unsigned index;
        const char *want;
    } rows[] = {
        {"a", 0, "a"},
        {"a", 5, "a"},
        {"a,b,c", 0, "a"},
        {"a,b,c", 2, "c"},
        {"a,b,c", 3, NULL},
        {"a,,c", 1, NULL},
        {"", 0, NULL},
        {NULL, 0, NULL},
        {"a,", 1, NULL},
        {"a,b", 1, "b"},
        {"too-long-a-name", 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char got[8];
        bool good = pgtarget_list_entry(rows[i].list, rows[i].index, got, sizeof got);
        assert_int_equal(good, rows[i].want != NULL);
        if (good)
            assert_string_equal(got, rows[i].want);
    }
}

static void connection_strings(void **state)
{
    (void)state;
    static const struct {
        const char *string;
        bool want;
    } rows[] = {
        {"postgresql://u:p@h:5432/d?sslmode=require", true},
        {"host=a,b port=1,2 user='x y'", true},
        {"postgresql:///d?host=/run/postgresql", true},
        {"postgresql://u@h/d?nosuch=1", false},
        {"host", false},
        {"host=a user='x", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(pgtarget_check(rows[i].string), rows[i].want);
}

/* Counts through the hosts by asking where the connection goes. */
static void hosts_take_turns(void **state)
{
    (void)state;
    static const struct {
        const char *string;
        unsigned hosts;
        const char *want[4]; /* host:port of the tries */
    } rows[] = {
        {"host=/a,/b,/c port=1,2,3", 3, {"/a:1", "/b:2", "/c:3", "/a:1"}},
        {"host=/a,/b port=9", 2, {"/a:9", "/b:9", "/a:9", "/b:9"}},
        {"postgresql://%2Fa:1,%2Fb/d", 2, {"/a:1", "/b:5432", "/a:1", "/b:5432"}},
        {"host=/a port=4", 1, {"/a:4", "/a:4", "/a:4", "/a:4"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (unsigned number = 0; number < 4; number++) {
            unsigned hosts = 0;
            char got[32];
            PGconn *conn = pgtarget_start(rows[i].string, "test", number, &hosts);
            assert_non_null(conn);
            snprintf(got, sizeof got, "%s:%s", PQhost(conn), PQport(conn));
            assert_string_equal(got, rows[i].want[number]);
            assert_int_equal(hosts, rows[i].hosts);
            assert_int_equal(pgtarget_timeout(conn), 10);
            PQfinish(conn);
        }
}

static void timeouts_are_the_operator_s(void **state)
{
    (void)state;
    unsigned hosts;
    PGconn *conn = pgtarget_start("host=/a connect_timeout=3", "test", 0, &hosts);
    assert_int_equal(pgtarget_timeout(conn), 3);
    PQfinish(conn);
    conn = pgtarget_start("host=/a connect_timeout=0", "test", 0, &hosts);
    assert_int_equal(pgtarget_timeout(conn), 0);
    PQfinish(conn);
}

static void never_up_cb(struct pgconn *pgconn)
{
    (void)pgconn;
    fail();
}

static void never_down_cb(struct pgconn *pgconn, const char *reason)
{
    (void)pgconn;
    (void)reason;
    fail();
}

static void closed_cb(struct pgconn *pgconn)
{
    (*(int *)pgconn->options.data)++;
}

static struct pgconn_options options_of(const char *conninfo, int *closed)
{
    return (struct pgconn_options){.conninfo = conninfo,
                                   .name = "test",
                                   .data = closed,
                                   .callbacks = {.up_cb = never_up_cb, .down_cb = never_down_cb}};
}

static void stop_cb(uv_timer_t *timer)
{
    pgconn_close(timer->data, closed_cb);
    uv_close((uv_handle_t *)timer, NULL);
}

/* Closed after so many milliseconds of trying: the loop ends up empty, whatever was under way. */
static void check_close_after(const char *conninfo, uint64_t milliseconds)
{
    uv_loop_t loop;
    uv_timer_t timer;
    struct pgconn pgconn;
    int closed = 0;
    struct pgconn_options options = options_of(conninfo, &closed);
    assert_int_equal(uv_loop_init(&loop), 0);
    pgconn_init(&pgconn, &loop, &options);
    uv_timer_init(&loop, &timer);
    timer.data = &pgconn;
    uv_timer_start(&timer, stop_cb, milliseconds, 0);
    pgconn_start(&pgconn);
    assert_int_equal(pgconn_state(&pgconn), PGCONN_CONNECTING);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(closed, 1);
    assert_int_equal(pgconn_state(&pgconn), PGCONN_DOWN);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void closed_while_trying(void **state)
{
    (void)state;
    /* A server that takes connections and says nothing. */
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(silent, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(silent, 10), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &length), 0);
    char conninfo[100];
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d sslmode=disable gssencmode=disable",
             ntohs(address.sin_port));
    static const uint64_t times[] = {0, 1, 5, 50, 300};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        check_close_after(conninfo, times[i]);
        check_close_after("host=/nowhere", times[i]);
        check_close_after("host=127.0.0.1,/nowhere port=1,2", times[i]);
        check_close_after("host=a.invalid", times[i]);
    }
    close(silent);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    unsetenv("PGCONNECT_TIMEOUT");
    unsetenv("PGHOST");
    unsetenv("PGPORT");
    unsetenv("PGHOSTADDR");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_ten_seconds),
        cmocka_unit_test(entries_of_lists),
        cmocka_unit_test(connection_strings),
        cmocka_unit_test(hosts_take_turns),
        cmocka_unit_test(timeouts_are_the_operator_s),
        cmocka_unit_test(closed_while_trying),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
