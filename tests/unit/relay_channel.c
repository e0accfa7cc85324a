/* A connection to the smarthost, against servers of OpenSSL's own: each way to open one, and to close
 * it at any time. What goes through it is the matter of relay_channel_data.c, what may be wrong that
 * of relay_channel_trouble.c. */
#include "tests/unit/channel_client.h"

#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>

static const enum channel_tls both[] = {CHANNEL_STARTTLS, CHANNEL_NO_TLS};

/* Each way, whole and octet by octet. */
static void opens_in_each_way(void **state)
{
    (void)state;
    static const struct {
        enum channel_tls tls;
        const char *user, *password, *password_file, *token_file;
        const char *script[24];
    } ways[] = {
        {.tls = CHANNEL_STARTTLS,
         .script = {START, "S 250-mx.example", "S 250-8BITMIME", "S 250 SIZE 1000", "W"}},
        {.tls = CHANNEL_STARTTLS,
         .user = "user",
         .password = PASSWORD,
         .script = {START, "S 250-mx.example", "S 250-8BITMIME", "S 250-AUTH LOGIN PLAIN XOAUTH2",
                    "S 250 SIZE 1000", "H AUTH PLAIN", "S 334 ", PLAIN, "S 235 2.7.0 come in",
                    "W"}},
        {.tls = CHANNEL_STARTTLS,
         .user = "user",
         .password_file = PASSWORD "\nmore\n",
         .script = {START, "S 250-mx.example", "S 250-8BITMIME", "S 250-AUTH LOGIN",
                    "S 250 SIZE 1000", "H AUTH LOGIN", "S 334 VXNlcm5hbWU6",
                    "H dXNlcg==", "S 334 UGFzc3dvcmQ6", "H b3BlbiBzZXNhbWU=", "S 235-2.7.0 come",
                    "S 235 2.7.0 in", "W"}},
        {.tls = CHANNEL_STARTTLS,
         .user = "user",
         .token_file = "token\r\n",
         .script = {START, "S 250-mx.example", "S 250-8BITMIME", "S 250-AUTH PLAIN XOAUTH2",
                    "S 250 SIZE 1000", "H AUTH XOAUTH2", "S 334 ",
                    "H dXNlcj11c2VyAWF1dGg9QmVhcmVyIHRva2VuAQE=", "S 235 2.7.0 come in", "W"}},
        {.tls = CHANNEL_IMPLICIT,
         .user = "user",
         .password = PASSWORD,
         .script = {"T", GREET, "S 250-mx.example", "S 250-8BITMIME", "S 250-AUTH PLAIN",
                    "S 250 SIZE 1000", "H AUTH PLAIN", "S 334 ", PLAIN, "S 235 2.7.0 come in",
                    "W"}},
        {.tls = CHANNEL_NO_TLS,
         .script = {GREET, "S 250-mx.example", "S 250-8BITMIME", "S 250-STARTTLS",
                    "S 250 SIZE 1000", "W"}},
        /* Never in the clear. */
        {.tls = CHANNEL_NO_TLS,
         .user = "user",
         .password = PASSWORD,
         .script = {GREET, "S 250-mx.example", "S 250-8BITMIME", "S 250-AUTH PLAIN LOGIN",
                    "S 250 SIZE 1000", "W"}},
    };

    for (size_t i = 0; i < 2 * (sizeof ways / sizeof ways[0]); i++) {
        const char *script[25] = {i % 2 == 0 ? "D" : "R "};
        char password_path[100], token_path[100];
        struct peer peer = {.script = script, .tls = peer_context(&files, "good")};
        struct client client;
        memcpy(script + 1, ways[i / 2].script, sizeof ways[i / 2].script);
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.options.tls = ways[i / 2].tls;
        client.options.user = ways[i / 2].user;
        client.options.password = ways[i / 2].password;
        if (ways[i / 2].password_file != NULL) {
            write_file("password", ways[i / 2].password_file, password_path);
            client.options.password_file = password_path;
        }
        if (ways[i / 2].token_file != NULL) {
            write_file("token", ways[i / 2].token_file, token_path);
            client.options.token_file = token_path;
        }
        client.leaves_opened = true;
        client_meet(&client);
        assert_string_equal(client.words, "");
        assert_int_equal(client.opened, 1);
        assert_true(client.extensions.eight_bit);
        assert_false(client.extensions.pipelining); /* that was said in the clear */
        assert_int_equal(client.extensions.size_max, 1000);
        peer_end(&peer);
        assert_null(strstr(peer.clear.data, "AUTH"));
        if (client.options.tls == CHANNEL_IMPLICIT)
            assert_string_equal(peer.clear.data, "");
        if (client.options.tls == CHANNEL_STARTTLS)
            assert_string_equal(peer.clear.data, "EHLO client.example\r\nSTARTTLS\r\n");
        peer_free(&peer);
        client_free(&client);
        SSL_CTX_free(peer.tls);
    }
}

/* Leaves after so many turns of the loop: while the name is looked up, in the middle of TLS, whenever. */
static void may_be_closed_at_any_time(void **state)
{
    (void)state;
    static const char *const script[] = {
        START, "S 250 AUTH PLAIN", "H AUTH PLAIN", "S 334 ", PLAIN, "S 235 come in", "W", NULL};
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    struct peer peer = {.script = script, .tls = peer_context(&files, "good"), .limit = SIZE_MAX};

    for (size_t host = 0; host < 2; host++) {
        unsigned opened = 0;
        peer_start(&peer);
        for (int turns = 0; opened < 2 && turns < PEER_TALKS; turns++) {
            struct client client;
            client_init(&client, &loop, &peer, &files);
            client.options.host = hosts[host];
            client.options.user = "user";
            client.options.password = PASSWORD;
            client_open(&client);
            for (int turn = 0; turn < turns && client.opened == 0; turn++)
                uv_run(&loop, UV_RUN_ONCE);
            opened += client.opened;
            client_leave(&client);
            client_run(&loop);
            assert_int_equal(client.lost, 0);
            client_free(&client);
        }
        assert_int_equal(opened, 2);
        peer_end(&peer);
        peer_free(&peer);
    }
    SSL_CTX_free(peer.tls);
}

/* Until something is kept, so that there is something to be drained. */
static void fill_opened_cb(void *owner, const struct extensions *extensions)
{
    static const char bytes[1024 * 1024];
    struct client *client = owner;

    client_opened_cb(owner, extensions);
    while (channel_write(client->channel, bytes, sizeof bytes) == 0)
        continue;
}

static void may_be_closed_from_any_callback(void **state)
{
    (void)state;
    enum { OPENED_CB, RECEIVED_CB, DRAINED_CB, CALLBACKS };
    static const char *const scripts[2][16] = {{OPENED, "B", "S 250 hello", "W"},
                                               {OPENED_CLEAR, "B", "S 250 hello", "W"}};

    for (size_t t = 0; t < 2; t++) {
        struct peer peer = {.script = scripts[t], .tls = peer_context(&files, "good")};
        peer_start(&peer);
        for (int where = 0; where < CALLBACKS; where++) {
            struct client client;
            client_init(&client, &loop, &peer, &files);
            client.options.tls = both[t];
            client.greets = "NOOP\r\n";
            client.leaves_opened = where == OPENED_CB;
            client.leaves_received = where == RECEIVED_CB ? 1 : 0;
            client.leaves_drained = where == DRAINED_CB;
            if (where == DRAINED_CB)
                client.callbacks.opened_cb = fill_opened_cb;
            client_meet(&client);
            assert_string_equal(client.words, "");
            assert_int_equal(client.opened, 1);
            assert_int_equal(client.drained, where == DRAINED_CB);
            client_free(&client);
        }
        peer_end(&peer);
        peer_free(&peer);
        SSL_CTX_free(peer.tls);
    }
}

/* What libcurl looks names up with. `several.example` has an address where nobody listens before that of
 * the servers here; for `slow.example` there is no answer before it is let go. */
static struct {
    sem_t begun, let_go;
    atomic_bool late; /* nobody has let it go */
} slow;

typedef int look_up(const char *name, const char *service, const struct addrinfo *hints,
                    struct addrinfo **found);

static look_up *real_look_up(void)
{
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    look_up *real;

    memcpy(&real, &symbol, sizeof real); /* ISO C has no conversion for it */
    return real;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    struct timespec patience;
    int result;

    if (name != NULL && strcmp(name, "slow.example") == 0) {
        sem_post(&slow.begun);
        clock_gettime(CLOCK_REALTIME, &patience);
        patience.tv_sec += PEER_PATIENCE;
        slow.late = sem_timedwait(&slow.let_go, &patience) != 0;
        return EAI_NONAME;
    }
    if (name == NULL || strcmp(name, "several.example") != 0)
        return real_look_up()(name, service, hints, found);
    result = real_look_up()("127.0.0.2", service, hints, found);
    if (result == 0)
        result = real_look_up()("127.0.0.1", service, hints, &(*found)->ai_next);
    return result;
}

static void goes_from_address_to_address(void **state)
{
    (void)state;
    static const char *const script[] = {OPENED_CLEAR, "W", NULL};
    struct peer peer = {.script = script};

    peer_start(&peer);
    for (int i = 0; i < 10; i++) {
        struct client client;
        client_init(&client, &loop, &peer, &files);
        client.options.tls = CHANNEL_NO_TLS;
        client.options.host = "several.example";
        client.leaves_opened = true;
        client_meet(&client);
        assert_string_equal(client.words, "");
        assert_int_equal(client.opened, 1);
        client_free(&client);
    }
    peer_end(&peer);
    peer_free(&peer);
}

/* The look-up still waits when the channel, and all that is on the loop, has come to its end. */
static void closes_without_waiting_for_a_name(void **state)
{
    (void)state;
    static const char *const script[] = {NULL};
    struct peer peer = {.script = script};

    sem_init(&slow.begun, 0, 0);
    sem_init(&slow.let_go, 0, 0);
    peer_start(&peer);
    for (int i = 0; i < 2; i++) {
        struct client client;
        client_init(&client, &loop, &peer, &files);
        client.options.host = "slow.example";
        client.options.connect_seconds = 1;
        client_open(&client);
        while (sem_trywait(&slow.begun) != 0)
            uv_run(&loop, UV_RUN_NOWAIT);
        if (i == 0)
            client_leave(&client);
        client_run(&loop);
        assert_int_equal(client.opened, 0);
        assert_false(slow.late);
        assert_int_equal(client.lost, i);
        if (i == 1)
            assert_int_equal(client.trouble, TROUBLE_UNREACHABLE);
        client_free(&client);
    }
    sem_post(&slow.let_go); /* each of the two that look it up */
    sem_post(&slow.let_go);
    peer_end(&peer);
    peer_free(&peer);
}

/* One is lost, and stays where it is while another takes its place: the system gives its number to the
 * descriptor of the other. */
struct follower {
    struct client first, second;
};

static void first_received_cb(void *owner, const char *bytes, size_t length)
{
    struct follower *follower = owner;

    client_received_cb(owner, bytes, length);
    client_open(&follower->second); /* connects on a later turn */
    usleep(50 * 1000);              /* but the first is lost in this one */
}

static void first_lost_cb(void *owner, enum trouble trouble, const char *words)
{
    struct follower *follower = owner;

    (void)words;
    assert_int_equal(trouble, TROUBLE_UNREACHABLE);
    assert_int_equal(follower->first.lost++, 0);
}

static void second_received_cb(void *owner, const char *bytes, size_t length)
{
    struct follower *follower =
        (struct follower *)(void *)((char *)owner - offsetof(struct follower, second));

    client_received_cb(owner, bytes, length);
    client_leave(&follower->first);
    client_leave(&follower->second);
}

static void leave_the_first(struct talk *talk)
{
    bool first;

    pthread_mutex_lock(&talk->peer->lock);
    first = talk->peer->limit == 0;
    talk->peer->limit = SIZE_MAX;
    pthread_mutex_unlock(&talk->peer->lock);
    if (first)
        shutdown(talk->socket, SHUT_RDWR);
}

static void is_followed_by_another(void **state)
{
    (void)state;
    static const char *const script[] = {OPENED_CLEAR, "B", "S 250 hello", "!", "W", NULL};
    struct peer peer = {.script = script, .rest = leave_the_first};
    struct follower follower;
    struct client *both_of_them[] = {&follower.first, &follower.second};

    peer_start(&peer);
    for (size_t i = 0; i < 2; i++) {
        client_init(both_of_them[i], &loop, &peer, &files);
        both_of_them[i]->options.tls = CHANNEL_NO_TLS;
        both_of_them[i]->greets = "NOOP\r\n";
    }
    follower.first.callbacks.received_cb = first_received_cb;
    follower.first.callbacks.lost_cb = first_lost_cb;
    follower.second.callbacks.received_cb = second_received_cb;
    client_meet(&follower.first);
    assert_int_equal(follower.first.lost, 1);
    assert_string_equal(follower.second.words, "");
    assert_int_equal(follower.second.received.length, strlen("250 hello\r\n"));
    client_free(&follower.first);
    client_free(&follower.second);
    peer_end(&peer);
    peer_free(&peer);
}

/* Proxies and the like are not ours to use, whoever sets them for others. */
static void does_not_mind_the_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"ALL_PROXY",   "all_proxy",  "http_proxy",
                                        "HTTPS_PROXY", "SMTP_PROXY", "smtp_proxy"};
    static const char *const script[] = {OPENED, "W", NULL};
    struct peer peer = {.script = script, .tls = peer_context(&files, "good")};
    struct client client;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        setenv(names[i], "http://127.0.0.1:1", 1);
    peer_start(&peer);
    client_init(&client, &loop, &peer, &files);
    client.leaves_opened = true;
    client_meet(&client);
    assert_string_equal(client.words, "");
    assert_int_equal(client.opened, 1);
    client_free(&client);
    peer_end(&peer);
    peer_free(&peer);
    SSL_CTX_free(peer.tls);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

/* A name, an address, and an address literal; none of them changes what is asked for. */
static void says_what_it_is_called(void **state)
{
    (void)state;
    static const char *const names[] = {"client.example", "[192.0.2.1]", "[IPv6:2001:db8::1]",
                                        "a_b", "a%41?b#c"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char hello[100];
        const char *const script[] = {"S 220 mx.example", hello, "S 250 mx.example", "W", NULL};
        struct peer peer = {.script = script};
        struct client client;
        snprintf(hello, sizeof hello, "H EHLO %s\r\n", names[i]);
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.options.tls = CHANNEL_NO_TLS;
        client.options.hostname = names[i];
        client.leaves_opened = true;
        client_meet(&client);
        assert_string_equal(client.words, "");
        client_free(&client);
        peer_end(&peer);
        peer_free(&peer);
    }
}

/* What was offered in the clear counts for nothing, nor what no EHLO was answered with. */
static void forgets_what_does_not_count(void **state)
{
    (void)state;
    static const char *const scripts[][24] = {
        {START, "S 250-PIPELINING", "S 250 8BITMIME", "W"},
        {START, "S 250 mx.example", "W"},
        {START, "S 250-mx.example PIPELINING", "S 250-8BITMIME", "S 502 no", "W"},
        {START, "S 502 no", "H HELO client.example", "S 250-mx", "S 250 PIPELINING", "W"},
    };
    static const struct {
        unsigned opened;
        bool pipelining, eight_bit;
    } want[] = {{1, false, true}, {1, false, false}, {0, false, false}, {1, false, false}};

    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct peer peer = {.script = scripts[i], .tls = peer_context(&files, "good")};
        struct client client;
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.leaves_opened = true;
        client_meet(&client);
        assert_int_equal(client.opened, want[i].opened);
        assert_int_equal(client.extensions.pipelining, want[i].pipelining);
        assert_int_equal(client.extensions.eight_bit, want[i].eight_bit);
        assert_int_equal(client.extensions.size, 0);
        client_free(&client);
        peer_end(&peer);
        peer_free(&peer);
        SSL_CTX_free(peer.tls);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_in_each_way, start_one, stop_one),
        cmocka_unit_test_setup_teardown(may_be_closed_at_any_time, start_one, stop_one),
        cmocka_unit_test_setup_teardown(may_be_closed_from_any_callback, start_one, stop_one),
        cmocka_unit_test_setup_teardown(goes_from_address_to_address, start_one, stop_one),
        cmocka_unit_test_setup_teardown(closes_without_waiting_for_a_name, start_one, stop_one),
        cmocka_unit_test_setup_teardown(is_followed_by_another, start_one, stop_one),
        cmocka_unit_test_setup_teardown(does_not_mind_the_environment, start_one, stop_one),
        cmocka_unit_test_setup_teardown(says_what_it_is_called, start_one, stop_one),
        cmocka_unit_test_setup_teardown(forgets_what_does_not_count, start_one, stop_one),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
