/* What goes through a connection to the smarthost once it is open, both ways and at any speed, and how it
 * ends. */
#include "tests/unit/channel_client.h"

#include <stdatomic.h>

static const enum channel_tls both[] = {CHANNEL_STARTTLS, CHANNEL_NO_TLS};

/* What both sides of a transfer compute. */
static char pattern(size_t at)
{
    return (char)(at * 7 + at / 251);
}

struct transfer {
    size_t upward, downward; /* octets from the client, and to it */
    size_t piece;            /* of a reading of the server */
    unsigned pause;          /* microseconds between such */
    size_t heard;
    bool sound;
};

/* Hears all of it, now and then saying something. */
static void hear_and_say(struct talk *talk)
{
    struct transfer *transfer = talk->peer->data;
    char bytes[64 * 1024];
    size_t said = 0, count = 1;

    while ((transfer->heard < transfer->upward || said < transfer->downward) && count > 0) {
        if (transfer->heard < transfer->upward) {
            count = talk_receive(talk, bytes, transfer->piece);
            for (size_t i = 0; i < count; i++)
                transfer->sound = transfer->sound && bytes[i] == pattern(transfer->heard + i);
            transfer->heard += count;
            usleep(transfer->pause);
        }
        if (said < transfer->downward) {
            size_t part = transfer->downward - said < 1000 ? transfer->downward - said : 1000;
            for (size_t i = 0; i < part; i++)
                bytes[i] = pattern(said + i);
            if (!talk_send(talk, bytes, part))
                break;
            said += part;
        }
    }
    talk_send(talk, "done", 4);
}

struct writer {
    struct client client;
    char *bytes;
    size_t length, at, piece; /* what is written at once */
    size_t kept_most;
    unsigned long kept_times;
    size_t eager; /* so much is written whenever something comes, whatever is kept; 0: no */
};

/* As much as goes at once, and one piece more. */
static void write_on(struct writer *writer)
{
    size_t kept = 0;

    while (kept == 0 && writer->at < writer->length) {
        size_t part = writer->piece < writer->length - writer->at ? writer->piece
                                                                  : writer->length - writer->at;
        char *exact = malloc(part); /* so that a sanitizer sees any look at it later */
        memcpy(exact, writer->bytes + writer->at, part);
        kept = channel_write(writer->client.channel, exact, part);
        free(exact);
        writer->at += part;
    }
    writer->kept_times += kept > 0;
    if (kept > writer->kept_most)
        writer->kept_most = kept;
}

static void writer_opened_cb(void *owner, const struct extensions *extensions)
{
    client_opened_cb(owner, extensions);
    write_on(owner);
}

static void writer_drained_cb(void *owner)
{
    client_drained_cb(owner);
    write_on(owner);
}

static void writer_received_cb(void *owner, const char *bytes, size_t length)
{
    struct writer *writer = owner;

    client_received_cb(owner, bytes, length);
    if (writer->eager > 0 && writer->client.channel != NULL) {
        writer->piece = writer->eager;
        write_on(writer);
    }
}

static void transfer(enum channel_tls tls, size_t upward, size_t piece, size_t downward,
                     size_t peer_piece, unsigned pause, bool octets, size_t eager)
{
    static const char *const scripts[2][16] = {{OPENED, "!", "W"}, {OPENED_CLEAR, "!", "W"}};
    const char *script[17] = {octets ? "D" : "R "};
    struct transfer data = {
        .upward = upward, .downward = downward, .piece = peer_piece, .pause = pause, .sound = true};
    struct peer peer = {.script = script,
                        .tls = peer_context(&files, "good"),
                        .rest = hear_and_say,
                        .data = &data,
                        .receive_size = 16 * 1024};
    struct writer writer = {
        .bytes = malloc(upward + 1), .length = upward, .piece = piece, .eager = eager};
    struct client *client = &writer.client;

    memcpy(script + 1, scripts[tls == CHANNEL_NO_TLS], sizeof scripts[0]);
    for (size_t i = 0; i < upward; i++)
        writer.bytes[i] = pattern(i);
    peer_start(&peer);
    client_init(client, &loop, &peer, &files);
    client->options.tls = tls;
    client->callbacks.opened_cb = writer_opened_cb;
    client->callbacks.drained_cb = writer_drained_cb;
    client->callbacks.received_cb = writer_received_cb;
    client->leaves_received = downward + 4;
    client_meet(client);
    assert_string_equal(client->words, "");
    peer_end(&peer);
    assert_int_equal(data.heard, upward);
    assert_true(data.sound);
    assert_int_equal(client->received.length, downward + 4);
    for (size_t i = 0; i < downward; i++)
        if (client->received.data[i] != pattern(i))
            fail_msg("octet %zu is another", i);
    assert_memory_equal(client->received.data + downward, "done", 4);
    assert_int_equal(writer.at, upward);
    if (eager > 0)
        assert_in_range(client->drained, 1, writer.kept_times - 1);
    else
        assert_int_equal(client->drained, writer.kept_times);
    if (upward > 8 * 1024 * 1024)
        assert_true(writer.kept_times > 0);
    assert_true(eager > 0 || writer.kept_most <= piece);
    client_free(client);
    peer_free(&peer);
    free(writer.bytes);
    SSL_CTX_free(peer.tls);
}

static void carries_data_in_any_fragmentation(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100 * 1000};

    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
            transfer(both[t], pieces[i] < 10 ? 3000 : 200 * 1000, pieces[i], 20 * 1000,
                     pieces[i] < 64 * 1024 ? pieces[i] : 64 * 1024, 0, false, 0);
        transfer(both[t], 20 * 1000, 5000, 20 * 1000, 1000, 0, true, 0);
    }
}

/* The server reads slowly, and the client hears what it says meanwhile. */
static void keeps_what_a_slow_server_leaves(void **state)
{
    (void)state;
    enum { SIZE = 10 * 1024 * 1024 };

    for (size_t t = 0; t < 2; t++) {
        transfer(both[t], SIZE, SIZE, 500 * 1000, 64 * 1024, 500, false, 0);
        transfer(both[t], SIZE, 64 * 1024, 500 * 1000, 64 * 1024, 500, false, 0);
        transfer(both[t], SIZE, 300 * 1000, 500 * 1000, 5000, 10, false, 0);
        transfer(both[t], SIZE, 8 * 1024 * 1024, 500 * 1000, 64 * 1024, 500, false, 10 * 1000);
    }
}

/* A server that talks as fast as it can gets its share, and no more. */
struct clock {
    uv_timer_t timer;
    unsigned ticks;
};

static void tick_cb(uv_timer_t *timer)
{
    struct clock *clock = timer->data;
    clock->ticks++;
}

static void say_much(struct talk *talk)
{
    static char bytes[1024 * 1024];

    for (int i = 0; i < 10; i++)
        talk_send(talk, bytes, sizeof bytes);
}

static void lets_others_work_while_a_server_talks(void **state)
{
    (void)state;
    static const char *const scripts[2][16] = {{OPENED, "B", "!", "W"},
                                               {OPENED_CLEAR, "B", "!", "W"}};

    for (size_t t = 0; t < 2; t++) {
        struct peer peer = {
            .script = scripts[t], .tls = peer_context(&files, "good"), .rest = say_much};
        struct clock clock = {.ticks = 0};
        struct client client;
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.options.tls = both[t];
        client.greets = "NOOP\r\n";
        client.leaves_received = 10 * 1024 * 1024;
        uv_timer_init(&loop, &clock.timer);
        clock.timer.data = &clock;
        uv_timer_start(&clock.timer, tick_cb, 0, 1);
        uv_unref((uv_handle_t *)&clock.timer);
        client_meet(&client);
        uv_close((uv_handle_t *)&clock.timer, NULL);
        client_run(&loop);
        assert_string_equal(client.words, "");
        assert_int_equal(client.received.length, 10 * 1024 * 1024);
        assert_true(clock.ticks > 5);
        peer_end(&peer);
        peer_free(&peer);
        client_free(&client);
        SSL_CTX_free(peer.tls);
    }
}

/* The end of it. */

static void hears_the_last_words(void **state)
{
    (void)state;
    static const char *const ends[] = {"X", "Z", NULL};
    static const char *const scripts[2][16] = {{OPENED, "H NOOP", "S 421 4.7.0 bye", "W"},
                                               {OPENED_CLEAR, "H NOOP", "S 421 4.7.0 bye", "W"}};

    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < 2; i++) {
            const char *script[16];
            struct peer peer = {.script = script, .tls = peer_context(&files, "good")};
            struct client client;
            memcpy(script, scripts[t], sizeof script);
            for (size_t step = 0; script[step] != NULL; step++)
                if (script[step][0] == 'W')
                    script[step] = ends[i];
            peer_start(&peer);
            client_init(&client, &loop, &peer, &files);
            client.options.tls = both[t];
            client.greets = "NOOP\r\n";
            client_meet(&client);
            assert_int_equal(client.opened, 1);
            assert_int_equal(client.lost, 1);
            assert_int_equal(client.trouble, TROUBLE_UNREACHABLE);
            if (i == 0) { /* a reset may overtake them */
                assert_int_equal(client.received.length, 15);
                assert_memory_equal(client.received.data, "421 4.7.0 bye\r\n", 15);
            }
            peer_end(&peer);
            peer_free(&peer);
            client_free(&client);
            SSL_CTX_free(peer.tls);
        }
    }
}

/* The server leaves in the middle, having said why. */
static void writes_no_more_to_who_has_left(void **state)
{
    (void)state;
    static const char *const scripts[2][16] = {{OPENED, "B", "S 421 4.3.2 enough", "Z"},
                                               {OPENED_CLEAR, "B", "S 421 4.3.2 enough", "Z"}};
    enum { SIZE = 10 * 1024 * 1024 };

    for (size_t t = 0; t < 2; t++) {
        struct peer peer = {.script = scripts[t], .tls = peer_context(&files, "good")};
        struct writer writer = {.bytes = calloc(1, SIZE), .length = SIZE, .piece = 100 * 1000};
        struct client *client = &writer.client;
        peer_start(&peer);
        client_init(client, &loop, &peer, &files);
        client->options.tls = both[t];
        client->callbacks.opened_cb = writer_opened_cb;
        client->callbacks.drained_cb = writer_drained_cb;
        client_meet(client);
        assert_int_equal(client->lost, 1);
        assert_int_equal(client->trouble, TROUBLE_UNREACHABLE);
        assert_int_equal(client->received.length, 18);
        assert_memory_equal(client->received.data, "421 4.3.2 enough\r\n", 18);
        peer_end(&peer);
        peer_free(&peer);
        client_free(client);
        free(writer.bytes);
        SSL_CTX_free(peer.tls);
    }
}

static void many_are_open_at_once(void **state)
{
    (void)state;
    enum { COUNT = 50, SIZE = 20 * 1000 };
    static const char *const script[] = {OPENED, "B", "!", "W", NULL};
    static struct client clients[COUNT];
    static char text[SIZE + 1];
    struct transfer data = {.upward = 0, .downward = SIZE};
    struct peer peer = {
        .script = script, .tls = peer_context(&files, "good"), .rest = hear_and_say, .data = &data};

    memset(text, 'x', SIZE);
    peer_start(&peer);
    for (int i = 0; i < COUNT; i++) {
        client_init(&clients[i], &loop, &peer, &files);
        clients[i].options.host = i % 2 == 0 ? "127.0.0.1" : "localhost";
        clients[i].greets = text;
        clients[i].leaves_received = SIZE + 4;
        client_open(&clients[i]);
    }
    client_run(&loop);
    for (int i = 0; i < COUNT; i++) {
        assert_string_equal(clients[i].words, "");
        assert_int_equal(clients[i].opened, 1);
        assert_int_equal(clients[i].received.length, SIZE + 4);
        client_free(&clients[i]);
    }
    peer_end(&peer);
    peer_free(&peer);
    SSL_CTX_free(peer.tls);
}

/* Turns of the loop while the server is silent. */
static struct {
    atomic_bool on;
    unsigned turns;
} silence;

/* Asks for a new handshake in the middle of the client's writing, and takes its time. */
static void shake_hands_anew(struct talk *talk)
{
    struct transfer *transfer = talk->peer->data;
    char bytes[16 * 1024];

    transfer->sound = talk_receive(talk, bytes, 1) == 1 && bytes[0] == pattern(0);
    transfer->heard = 1;
    SSL_renegotiate(talk->tls);
    SSL_do_handshake(talk->tls);
    talk_flush(talk);
    /* What the client sends is taken, so that it could send on, but not answered. */
    for (int i = 0; i < 100; i++) {
        ssize_t count;
        while ((count = recv(talk->socket, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
            BIO_write(talk->inward, bytes, (int)count);
        atomic_store(&silence.on, i > 10);
        usleep(5 * 1000);
    }
    atomic_store(&silence.on, false);
    hear_and_say(talk);
}

static void turn_cb(uv_prepare_t *prepare)
{
    (void)prepare;
    silence.turns += atomic_load(&silence.on);
}

static void waits_for_a_server_that_renegotiates(void **state)
{
    (void)state;
    enum { SIZE = 10 * 1024 * 1024 };
    static const char *const script[] = {OPENED, "!", "W", NULL};
    struct transfer data = {.upward = SIZE, .piece = 64 * 1024};
    struct peer peer = {.script = script,
                        .tls = peer_context(&files, "good"),
                        .rest = shake_hands_anew,
                        .data = &data,
                        .receive_size = 16 * 1024};
    struct writer writer = {.bytes = malloc(SIZE), .length = SIZE, .piece = SIZE};
    struct client *client = &writer.client;
    uv_prepare_t prepare;

    for (size_t i = 0; i < SIZE; i++)
        writer.bytes[i] = pattern(i);
    assert_int_equal(SSL_CTX_set_max_proto_version(peer.tls, TLS1_2_VERSION), 1);
    peer_start(&peer);
    client_init(client, &loop, &peer, &files);
    client->callbacks.opened_cb = writer_opened_cb;
    client->callbacks.drained_cb = writer_drained_cb;
    client->leaves_received = 4;
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, turn_cb);
    uv_unref((uv_handle_t *)&prepare);
    client_meet(client);
    uv_close((uv_handle_t *)&prepare, NULL);
    client_run(&loop);
    assert_string_equal(client->words, "");
    peer_end(&peer);
    assert_int_equal(data.heard, SIZE);
    assert_true(data.sound);
    assert_in_range(silence.turns, 0, 500);
    client_free(client);
    peer_free(&peer);
    free(writer.bytes);
    SSL_CTX_free(peer.tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(carries_data_in_any_fragmentation, start_one, stop_one),
        cmocka_unit_test_setup_teardown(keeps_what_a_slow_server_leaves, start_one, stop_one),
        cmocka_unit_test_setup_teardown(lets_others_work_while_a_server_talks, start_one, stop_one),
        cmocka_unit_test_setup_teardown(hears_the_last_words, start_one, stop_one),
        cmocka_unit_test_setup_teardown(writes_no_more_to_who_has_left, start_one, stop_one),
        cmocka_unit_test_setup_teardown(many_are_open_at_once, start_one, stop_one),
        cmocka_unit_test_setup_teardown(waits_for_a_server_that_renegotiates, start_one, stop_one),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
