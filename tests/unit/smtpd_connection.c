/* Connections of a whole server on a real loop, with a client that is driven step by step. */
#include "smtpd/connection.h"

#include "scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

enum { SECONDS = 60 };

static uv_loop_t loop;
static struct server server;
static int client;
static char heard[4096]; /* what the client heard last */
static size_t heard_length;

/* A port that was free a moment ago. */
static struct sockaddr_in find_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(descriptor, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&address, &length), 0);
    close(descriptor);
    return address;
}

static int begin(void **state)
{
    static char text[32], domain[] = "*", *items[] = {text}, *domains[] = {domain};
    static struct config config;
    struct sockaddr_in address = find_port();
    int size = 4096;

    if (scratch_setup(state) != 0)
        return -1;
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    config = (struct config){
        .common.spool = ((struct scratch *)*state)->path,
        .listen = {.items = items, .count = 1},
        .port = -1,
        .site.hostname = "mx.example",
        .site.domains = {.items = domains, .count = 1},
        .max_size = 1000000,
        .max_recipients = 10,
        .max_connections = 10,
        .max_connections_per_client = 10,
        .max_errors = 4,
        .max_messages = 10,
        .max_junk = 10,
        .error_delay = 1,
        .timeout = 300,
        .max_time = 3600,
    };
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(server_start(&server, &loop, &config), 0);

    heard_length = 0;
    client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    return 0;
}

/* Every test ends with an empty loop. */
static int end(void **state)
{
    close(client);
    server_stop(&server);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return scratch_teardown(state);
}

static uint64_t deadline(void)
{
    return uv_hrtime() + SECONDS * UINT64_C(1000000000);
}

static void turn_until(enum session_state state)
{
    uint64_t late = deadline();

    while (server.connections == NULL || server.connections->session.state != state) {
        assert_true(uv_hrtime() < late);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
}

/* The client reads until it has heard a text, and forgets all that came before its end. */
static void hears(const char *text)
{
    uint64_t late = deadline();

    for (;;) {
        char *found = memmem(heard, heard_length, text, strlen(text));
        ssize_t got;
        if (found != NULL) {
            heard_length -= (size_t)(found - heard) + strlen(text);
            memmove(heard, found + strlen(text), heard_length);
            return;
        }
        if (heard_length > sizeof heard / 2) {
            memmove(heard, heard + heard_length - 1000, 1000);
            heard_length = 1000;
        }
        assert_true(uv_hrtime() < late);
        uv_run(&loop, UV_RUN_NOWAIT);
        got = recv(client, heard + heard_length, sizeof heard - heard_length, MSG_DONTWAIT);
        assert_int_not_equal(got, 0);
        if (got > 0)
            heard_length += (size_t)got;
    }
}

static void says(const char *text)
{
    assert_int_equal(send(client, text, strlen(text), 0), strlen(text));
}

/* A reply that is to be delayed comes while the client does not take those before it: it goes
 * behind them, and the session goes on. */
static void a_delayed_reply_behind_a_blocked_one(void **state)
{
    static char before[1000000];
    struct connection *connection;

    (void)state;
    hears("220 mx.example");
    says("EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\n");
    hears("354 ");
    says("x\r\n.\r\n");
    turn_until(SESSION_COMMIT);
    connection = server.connections;
    connection->session.errors = 3;
    assert_true(output_write(&connection->output, before, sizeof before, false));
    assert_true(connection->output.writing);
    turn_until(SESSION_READY);
    assert_true(connection->session.delayed);
    assert_true(connection->output.writing);
    hears("queued as");
    says("NOOP\r\n");
    hears("250 2.0.0 Ok\r\n");
    says("QUIT\r\n");
    hears("221 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_delayed_reply_behind_a_blocked_one),
    };
    unsetenv("LISTEN_FDS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
