/* Replies on their way: in order, whole, and kept while the client does not take them. */
#include "smtpd/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uv_loop_t loop;
static uv_pipe_t pipe_here;
static int there;
static struct output output;
static int drained, last_status;

static void drained_cb(struct output *which, int status)
{
    assert_ptr_equal(which, &output);
    drained++;
    last_status = status;
}

static int begin(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    there = ends[1];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_pipe_init(&loop, &pipe_here, 0), 0);
    assert_int_equal(uv_pipe_open(&pipe_here, ends[0]), 0);
    output = (struct output){.stream = (uv_stream_t *)&pipe_here, .drained_cb = drained_cb};
    drained = last_status = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (!uv_is_closing((uv_handle_t *)&pipe_here))
        uv_close((uv_handle_t *)&pipe_here, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    output_free(&output);
    if (there >= 0)
        close(there);
    return uv_loop_close(&loop);
}

static void hears(const char *want)
{
    char got[100];
    ssize_t length = read(there, got, sizeof got - 1);

    assert_int_equal(length, strlen(want));
    assert_memory_equal(got, want, strlen(want));
}

static void what_is_taken_at_once_is_not_kept(void **state)
{
    (void)state;
    assert_true(output_write(&output, "250 Ok\r\n", 8, false));
    assert_false(output_pending(&output));
    hears("250 Ok\r\n");
    assert_int_equal(uv_run(&loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(drained, 0);
}

static void what_is_held_goes_when_it_is_released(void **state)
{
    (void)state;
    assert_true(output_write(&output, "one ", 4, true));
    assert_true(output_write(&output, "two ", 4, false));
    assert_true(output_pending(&output));
    assert_false(output.writing);
    assert_true(output_release(&output));
    assert_true(output_write(&output, "three", 5, false));
    while (drained == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_false(output_pending(&output));
    assert_int_equal(last_status, 0);
    assert_int_equal(drained, 1);
    hears("one two three");
}

/* More than a socket takes, with more behind it while libuv has the first. */
static void order_is_kept_whatever_the_client_takes(void **state)
{
    enum { SIZE = 4 * 1024 * 1024 };
    char *bytes = malloc(SIZE), *got = malloc(SIZE);
    size_t at = 0;

    (void)state;
    assert_non_null(bytes);
    assert_non_null(got);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 2654435761u >> 15);
    assert_true(output_write(&output, bytes, SIZE - 20, false));
    assert_true(output.writing);
    assert_true(output_write(&output, bytes + SIZE - 20, 10, false));
    assert_true(output_write(&output, bytes + SIZE - 10, 10, false));
    while (at < SIZE) {
        ssize_t length = recv(there, got + at, SIZE - at, MSG_DONTWAIT);
        if (length > 0)
            at += (size_t)length;
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    while (drained == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(drained, 1);
    assert_memory_equal(got, bytes, SIZE);
    free(bytes);
    free(got);
}

static void a_lost_client_is_told(void **state)
{
    static char bytes[4 * 1024 * 1024];

    (void)state;
    assert_true(output_write(&output, bytes, sizeof bytes, false));
    close(there);
    there = -1;
    while (drained == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_not_equal(last_status, 0);
    assert_false(output_write(&output, "x", 1, false));
}

static void nothing_is_told_after_the_close(void **state)
{
    static char bytes[4 * 1024 * 1024];

    (void)state;
    assert_true(output_write(&output, bytes, sizeof bytes, false));
    assert_true(output_write(&output, "x", 1, false));
    uv_close((uv_handle_t *)&pipe_here, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(drained, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_taken_at_once_is_not_kept),       TEST(what_is_held_goes_when_it_is_released),
        TEST(order_is_kept_whatever_the_client_takes), TEST(a_lost_client_is_told),
        TEST(nothing_is_told_after_the_close),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
