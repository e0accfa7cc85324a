/* Listening: whoever cannot be served is turned away, and the socket listens on. */
#include "smtpd/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 20 };

static uv_loop_t loop;
static struct listener listener;
static struct sockaddr_in address;
static uv_tcp_t accepted[CLIENTS];
static int clients[CLIENTS];
static int accepted_count, refused_count;
static bool no_memory;

static bool connect_cb(void *owner, uv_stream_t *socket)
{
    uv_tcp_t *handle = &accepted[accepted_count];

    assert_ptr_equal(owner, accepted);
    refused_count += no_memory;
    if (no_memory)
        return false;
    accepted_count++;
    uv_tcp_init(&loop, handle);
    assert_int_equal(uv_accept(socket, (uv_stream_t *)handle), 0);
    return true;
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

static int begin(void **state)
{
    char text[32], *items[] = {text};
    struct config config = {.port = -1, .listen = {.items = items, .count = 1}};

    (void)state;
    find_port();
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    accepted_count = refused_count = 0;
    no_memory = false;
    assert_int_equal(uv_loop_init(&loop), 0);
    listener = (struct listener){.connect_cb = connect_cb, .owner = accepted};
    assert_int_equal(listener_start(&listener, &loop, &config), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    listener_stop(&listener);
    for (int i = 0; i < accepted_count; i++)
        uv_close((uv_handle_t *)&accepted[i], NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static int connect_client(void)
{
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(descriptor, (struct sockaddr *)&address, sizeof address), 0);
    return descriptor;
}

static int turned_away(void)
{
    int count = 0;
    char byte;

    for (int i = 0; i < CLIENTS; i++)
        count += recv(clients[i], &byte, 1, MSG_DONTWAIT) == 0;
    return count;
}

static void who_waits_is_accepted(void **state)
{
    (void)state;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_client();
    while (accepted_count < CLIENTS)
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

static void who_cannot_be_served_is_turned_away_and_the_next_one_is_not(void **state)
{
    (void)state;
    no_memory = true;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_client();
    while (turned_away() < CLIENTS)
        uv_run(&loop, UV_RUN_NOWAIT);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    assert_true(refused_count >= CLIENTS);

    no_memory = false;
    clients[0] = connect_client();
    while (accepted_count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    close(clients[0]);
}

/* The one who waits for the handle in which others are turned away is not forgotten. */
static void memory_comes_back_in_between(void **state)
{
    (void)state;
    no_memory = true;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_client();
    while (refused_count == 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    no_memory = false;
    while (accepted_count + turned_away() < CLIENTS)
        uv_run(&loop, UV_RUN_NOWAIT);
    assert_true(accepted_count > 0);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

static void it_can_stop_while_it_turns_somebody_away(void **state)
{
    (void)state;
    no_memory = true;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_client();
    while (refused_count == 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_waits_is_accepted),
        TEST(who_cannot_be_served_is_turned_away_and_the_next_one_is_not),
        TEST(memory_comes_back_in_between),
        TEST(it_can_stop_while_it_turns_somebody_away),
    };
    unsetenv("LISTEN_FDS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
