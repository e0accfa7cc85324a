/* What may be wrong between us and the smarthost, up to the end of AUTH: each trouble is known for what
 * it is, in the server's words or plain ones, and none of it is an open channel. */
#include "tests/unit/channel_client.h"

/* A client with a password, if it has a user; the server has the certificate named. */
struct meeting {
    const char *script[20];
    enum channel_tls tls;
    bool user;
    const char *certificate; /* NULL: good */
    long seconds;            /* to connect; 0: many */
    enum trouble want;
    const char *words; /* these are among its words; with a `=`, they are all */
};

static void words_want(const struct client *client, const char *want)
{
    if (want[0] == '=')
        assert_string_equal(client->words, want + 1);
    else if (strstr(client->words, want) == NULL)
        fail_msg("words: %s\nwant: %s", client->words, want);
}

static void meet(const struct meeting *meeting)
{
    struct peer peer = {
        .script = meeting->script,
        .tls = peer_context(&files, meeting->certificate != NULL ? meeting->certificate : "good")};
    struct client client;

    peer_start(&peer);
    client_init(&client, &loop, &peer, &files);
    client.options.tls = meeting->tls;
    client.options.user = meeting->user ? "user" : NULL;
    client.options.password = meeting->user ? PASSWORD : NULL;
    if (meeting->seconds > 0)
        client.options.connect_seconds = meeting->seconds;
    client_meet(&client);
    if (client.opened > 0)
        fail_msg("it is open: %s", meeting->words);
    if (client.trouble != meeting->want)
        fail_msg("trouble %d, want %d: %s", client.trouble, meeting->want, client.words);
    words_want(&client, meeting->words);
    assert_string_equal(client.received.data != NULL ? client.received.data : "", "");
    assert_null(strstr(client.words, PASSWORD));
    assert_null(strstr(client.words, PLAIN_SAID));
    peer_end(&peer);
    assert_null(strstr(peer.clear.data, "AUTH"));
    peer_free(&peer);
    client_free(&client);
    SSL_CTX_free(peer.tls);
}

static void meet_all(const struct meeting *meetings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        meet(&meetings[i]);
}

#define MEET_ALL(meetings) meet_all(meetings, sizeof(meetings) / sizeof(meetings)[0])
#define AUTHS              "S 250-mx.example", "S 250 AUTH PLAIN LOGIN"

static void knows_a_refusal(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {"S 554-5.7.1 no", "S 554 5.7.1 service", "W"},
         .want = TROUBLE_UNREACHABLE,
         .words = "=554 5.7.1 no 5.7.1 service"},
        {.script = {"S 421 4.7.0 too many", "W"},
         .want = TROUBLE_THROTTLED,
         .words = "=421 4.7.0 too many"},
        {.script = {"S 454 later", "W"}, .want = TROUBLE_THROTTLED, .words = "=454 later"},
        {.script = {"S 450 4.7.0 slow", "X"},
         .want = TROUBLE_THROTTLED,
         .words = "=450 4.7.0 slow"},
        {.script = {GREET, "S 421 4.3.2 shutting down", "W"},
         .want = TROUBLE_THROTTLED,
         .words = "=421 4.3.2 shutting down"},
        {.script = {GREET, "S 454 later", "W"}, .want = TROUBLE_THROTTLED, .words = "=454 later"},
        {.script = {GREET, "S 550 5.7.1 you", "W"},
         .want = TROUBLE_UNREACHABLE,
         .words = "=550 5.7.1 you"},
        {.script = {GREET, "S 502 what", "W"}, .want = TROUBLE_NO_TLS, .words = "=502 what"},
        /* There it is not TLS that is missed: the client falls back to HELO. */
        {.script = {GREET, "S 502 what", "H HELO client.example", "S 550 go away", "W"},
         .tls = CHANNEL_NO_TLS,
         .want = TROUBLE_UNREACHABLE,
         .words = "=550 go away"},
        {.script = {GREET, "S 421 bye", "X"},
         .tls = CHANNEL_NO_TLS,
         .want = TROUBLE_THROTTLED,
         .words = "=421 bye"},
        {.script = {START, "S 421 4.7.0 bye", "X"},
         .want = TROUBLE_THROTTLED,
         .words = "=421 4.7.0 bye"},
    };
    MEET_ALL(meetings);
}

static void knows_that_there_is_no_tls(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {GREET, "S 250 mx.example", "W"}, .want = TROUBLE_NO_TLS, .words = "STARTTLS"},
        {.script = {GREET, AUTHS, "W"},
         .user = true,
         .want = TROUBLE_NO_TLS,
         .words = "does not offer STARTTLS"},
        {.script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS", "S 502 no", "W"},
         .want = TROUBLE_NO_TLS,
         .words = "=502 no"},
        {.script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS", "S 454 4.7.0 no",
                    "W"},
         .want = TROUBLE_THROTTLED,
         .words = "=454 4.7.0 no"},
        /* Its own reply is not what is to be had here. */
        {.script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS", "S 250 fine", "W"},
         .want = TROUBLE_NO_TLS,
         .words = "=250 fine"},
        {.script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS", "S 220 go", "B",
                    "R no TLS at all, but words\r\n", "W"},
         .want = TROUBLE_NO_TLS,
         .words = "wrong version number"},
        {.script = {"S 220 mx.example ESMTP", "W"},
         .tls = CHANNEL_IMPLICIT,
         .want = TROUBLE_NO_TLS,
         .words = "wrong version number"},
    };
    /* Where both come at once the client sees it before it begins. */
    static const struct meeting injection = {
        .script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS",
                   "R 220 go\r\n250-mx.example\r\n250 AUTH PLAIN\r\n", "T", "W"},
        .user = true,
        .want = TROUBLE_PROTOCOL,
        .words = "in the clear"};
    MEET_ALL(meetings);
    meet(&injection);
}

static void insists_on_tls_1_2(void **state)
{
    (void)state;
    static const char *const script[] = {START, "W", NULL};
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION};

    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        struct peer peer = {.script = script, .tls = peer_context(&files, "good")};
        struct client client;
        SSL_CTX_set_security_level(peer.tls, 0);
        assert_int_equal(SSL_CTX_set_min_proto_version(peer.tls, versions[i]), 1);
        assert_int_equal(SSL_CTX_set_max_proto_version(peer.tls, versions[i]), 1);
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client_meet(&client);
        assert_int_equal(client.opened, 0);
        assert_int_equal(client.trouble, TROUBLE_NO_TLS);
        words_want(&client, "protocol version");
        peer_end(&peer);
        peer_free(&peer);
        client_free(&client);
        SSL_CTX_free(peer.tls);
    }
}

static void trusts_no_wrong_certificate(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {UPGRADE, "T", "W"},
         .certificate = "other",
         .user = true,
         .want = TROUBLE_CERTIFICATE,
         .words = "127.0.0.1"},
        {.script = {UPGRADE, "T", "W"},
         .certificate = "old",
         .user = true,
         .want = TROUBLE_CERTIFICATE,
         .words = "expired"},
        {.script = {UPGRADE, "T", "W"},
         .certificate = "stranger",
         .user = true,
         .want = TROUBLE_CERTIFICATE,
         .words = "self-signed"},
        {.script = {"T", "W"},
         .certificate = "other",
         .tls = CHANNEL_IMPLICIT,
         .want = TROUBLE_CERTIFICATE,
         .words = "127.0.0.1"},
        {.script = {"T", "W"},
         .certificate = "stranger",
         .tls = CHANNEL_IMPLICIT,
         .want = TROUBLE_CERTIFICATE,
         .words = "self-signed"},
    };
    MEET_ALL(meetings);
}

static void says_why_the_credentials_are_no_good(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 535-5.7.8 Username and",
                    "S 535 5.7.8 password not accepted", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "=535 5.7.8 Username and 5.7.8 password not accepted"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 534 5.7.9 app password needed", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "=534 5.7.9 app password needed"},
        /* libcurl would be content with these: */
        {.script = {START, "S 250-mx.example", "S 250 SIZE 1", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "does not offer AUTH"},
        {.script = {START, "S 502 no EHLO", "H HELO", "S 250 mx.example", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "does not offer AUTH"},
        {.script = {START, "S 250-mx.example", "S 250 AUTH", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "AUTH"},
        {.script = {START, "S 250-mx.example", "S 250 AUTH CRAM-MD5 NTLM XOAUTH2", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "no way"},
        /* For now. */
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 454 4.7.0 too many", "W"},
         .user = true,
         .want = TROUBLE_THROTTLED,
         .words = "=454 4.7.0 too many"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 421 4.7.0 too many", "X"},
         .user = true,
         .want = TROUBLE_THROTTLED,
         .words = "=421 4.7.0 too many"},
        /* None of AUTH. */
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 250 fine", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "=250 fine"},
    };
    MEET_ALL(meetings);
}

/* A server that repeats what it has not understood, or a proxy that does, whole or cut. */
static void repeats_no_secret(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN,
                    "S 500 unknown command " PLAIN_SAID "", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "500"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 535-user user",
                    "S 535 " PASSWORD, "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "535"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 500 HVzZXIAb3BlbiBz...", "W"},
         .user = true,
         .want = TROUBLE_CREDENTIALS,
         .words = "=500 (and the credentials, repeated)"},
    };
    MEET_ALL(meetings);
}

static void needs_a_file_that_can_be_read(void **state)
{
    (void)state;
    static const char *const script[] = {"W", NULL};
    struct peer peer = {.script = script};

    peer_start(&peer);
    for (int i = 0; i < 4; i++) {
        char empty[100];
        struct client client;
        write_file("empty", "\n", empty);
        client_init(&client, &loop, &peer, &files);
        client.options.user = "user";
        if (i < 2)
            client.options.password_file = i == 0 ? "/nowhere/password" : empty;
        else
            client.options.token_file = i == 2 ? "/nowhere/token" : empty;
        client_meet(&client);
        assert_int_equal(client.opened, 0);
        assert_int_equal(client.trouble, TROUBLE_CREDENTIALS);
        words_want(&client, i < 2 ? "no password in " : "no token in ");
        words_want(&client, i % 2 == 1 ? empty
                            : i == 0   ? "/nowhere/password: No such file"
                                       : "/nowhere/token: No such file");
        client_free(&client);
    }
    peer_end(&peer);
    assert_string_equal(peer.clear.data, ""); /* it was not even connected */
    peer_free(&peer);
}

static void needs_a_host_that_is_there(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        enum trouble want;
        const char *words;
    } cases[] = {
        {"127.0.0.1", TROUBLE_UNREACHABLE, "onnect"},
        {"::1", TROUBLE_UNREACHABLE, "onnect"},
        {"nowhere.invalid", TROUBLE_NAME, "nowhere.invalid"},
        {"a/b", TROUBLE_NAME, "a/b"},
        {"user@127.0.0.1", TROUBLE_NAME, "user@127.0.0.1"},
        {"127.0.0.1:25", TROUBLE_NAME, "127.0.0.1:25"},
    };
    static const char *const script[] = {NULL};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer = {.script = script};
        struct client client;
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        peer_end(&peer); /* it has been, and is no more */
        peer_free(&peer);
        client.options.host = cases[i].host;
        client_meet(&client);
        assert_int_equal(client.opened, 0);
        assert_int_equal(client.trouble, cases[i].want);
        words_want(&client, cases[i].words);
        client_free(&client);
    }
}

static void needs_a_file_of_certificates(void **state)
{
    (void)state;
    static const char *const script[] = {UPGRADE, "T", "W", NULL};
    struct peer peer = {.script = script, .tls = peer_context(&files, "good")};
    struct client client;

    peer_start(&peer);
    client_init(&client, &loop, &peer, &files);
    client.options.ca = "/nowhere/ca";
    client_meet(&client);
    assert_int_equal(client.opened, 0);
    assert_int_equal(client.trouble, TROUBLE_CERTIFICATE);
    words_want(&client, "/nowhere/ca");
    client_free(&client);
    /* The system's do not know this one. */
    client_init(&client, &loop, &peer, &files);
    client.options.ca = NULL;
    client_meet(&client);
    assert_int_equal(client.opened, 0);
    assert_int_equal(client.trouble, TROUBLE_CERTIFICATE);
    client_free(&client);
    peer_end(&peer);
    peer_free(&peer);
    SSL_CTX_free(peer.tls);
}

static void does_not_wait_for_ever(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {"W"}, .seconds = 1, .want = TROUBLE_UNREACHABLE, .words = "1"},
        {.script = {"R 220-mx.exa", "W"}, .seconds = 1, .want = TROUBLE_UNREACHABLE, .words = "1"},
        {.script = {GREET, "W"}, .seconds = 1, .want = TROUBLE_UNREACHABLE, .words = "1"},
        {.script = {GREET, "S 250-mx.example", "S 250 STARTTLS", "H STARTTLS", "S 220 go", "W"},
         .seconds = 1,
         .want = TROUBLE_UNREACHABLE,
         .words = "1"},
        {.script = {START, "W"}, .seconds = 1, .want = TROUBLE_UNREACHABLE, .words = "1"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "W"},
         .user = true,
         .seconds = 1,
         .want = TROUBLE_UNREACHABLE,
         .words = "1"},
        {.script = {"W"},
         .tls = CHANNEL_IMPLICIT,
         .seconds = 1,
         .want = TROUBLE_UNREACHABLE,
         .words = "1"},
    };
    MEET_ALL(meetings);
}

static void knows_what_is_no_smtp(void **state)
{
    (void)state;
    static const struct meeting meetings[] = {
        {.script = {"R SSH-2.0-OpenSSH_9.2\r\n", "W"},
         .want = TROUBLE_PROTOCOL,
         .words = "greeting"},
        {.script = {"S 220-mx.example", "S 221 mx.example", "W"},
         .want = TROUBLE_PROTOCOL,
         .words = "greeting"},
        {.script = {"S 354 go", "W"}, .want = TROUBLE_PROTOCOL, .words = "=354 go"},
        {.script = {GREET, "S 250-mx.example", "S STARTTLS", "W"},
         .want = TROUBLE_PROTOCOL,
         .words = "EHLO"},
        {.script = {START, "S 250-mx.example", "S 550-AUTH PLAIN", "W"},
         .want = TROUBLE_PROTOCOL,
         .words = "EHLO"},
        {.script = {GREET, "S 354 go", "W"}, .want = TROUBLE_PROTOCOL, .words = "=354 go"},
        {.script = {START, AUTHS, "H AUTH PLAIN", "S hello", "W"},
         .user = true,
         .want = TROUBLE_PROTOCOL,
         .words = "AUTH"},
    };
    MEET_ALL(meetings);
}

/* Until the client has had enough. */
static void talk_on(struct talk *talk)
{
    const char *line = talk->peer->words;
    size_t length = strlen(line);

    while (talk_send(talk, line, length))
        continue;
    talk->peer->limit = talk->said; /* and that is no complaint */
}

static void listens_only_so_long(void **state)
{
    (void)state;
    static char words[100 * 1000 + 1];
    static const struct {
        const char *script[16];
        const char *line;
    } talkers[] = {
        {{"!"}, "220-mx.example welcomes you and has a lot to say\r\n"},
        {{"R 220 ", "!"}, words},
        {{GREET, "!"}, "250-mx.example\r\n"},
        {{GREET, "S 250-mx.example", "R 250 ", "!"}, words},
        {{START, "!"}, "250-mx.example\r\n"},
        {{START, "!"}, words},
        {{START, AUTHS, "H AUTH PLAIN", "!"}, "334-yes?\r\n"},
        {{"!"}, "\r\n"},
    };

    memset(words, 'x', sizeof words - 1);
    for (size_t i = 0; i < sizeof talkers / sizeof talkers[0]; i++) {
        struct peer peer = {.script = talkers[i].script,
                            .tls = peer_context(&files, "good"),
                            .rest = talk_on,
                            .words = talkers[i].line};
        struct client client;
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.options.user = "user";
        client.options.password = PASSWORD;
        client_meet(&client);
        assert_int_equal(client.opened, 0);
        if (client.trouble != TROUBLE_PROTOCOL)
            fail_msg("talker %zu: trouble %d: %s", i, client.trouble, client.words);
        peer_end(&peer);
        peer_free(&peer);
        client_free(&client);
        SSL_CTX_free(peer.tls);
    }
}

/* Cut off behind each octet of what the server says, up to the last of AUTH. */
static void survives_a_disconnect_at_every_octet(void **state)
{
    (void)state;
    static const char *const script[] = {
        START, AUTHS, "H AUTH PLAIN", "S 334 ", PLAIN, "S 235 2.7.0 come in", "W", NULL};
    unsigned opened = 0;

    for (size_t limit = 1; opened < 3; limit += limit < 200 ? 1 : 7) {
        struct peer peer = {.script = script, .tls = peer_context(&files, "good"), .limit = limit};
        struct client client;
        peer_start(&peer);
        client_init(&client, &loop, &peer, &files);
        client.options.user = "user";
        client.options.password = PASSWORD;
        client.leaves_opened = true;
        client_meet(&client);
        opened += client.opened;
        if (client.opened == 0 && client.trouble != TROUBLE_UNREACHABLE)
            fail_msg("limit %zu: trouble %d: %s", limit, client.trouble, client.words);
        peer_end(&peer);
        peer_free(&peer);
        client_free(&client);
        SSL_CTX_free(peer.tls);
        assert_true(limit < 10 * 1000);
    }
}

static void shows_only_what_is_printable(void **state)
{
    (void)state;
    static const struct meeting meeting = {.script = {"S 554 a\033[31mb\x80\xff c\tz", "W"},
                                           .want = TROUBLE_UNREACHABLE,
                                           .words = "554 a"};

    meet(&meeting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(knows_a_refusal, start_one, stop_one),
        cmocka_unit_test_setup_teardown(knows_that_there_is_no_tls, start_one, stop_one),
        cmocka_unit_test_setup_teardown(insists_on_tls_1_2, start_one, stop_one),
        cmocka_unit_test_setup_teardown(trusts_no_wrong_certificate, start_one, stop_one),
        cmocka_unit_test_setup_teardown(says_why_the_credentials_are_no_good, start_one, stop_one),
        cmocka_unit_test_setup_teardown(repeats_no_secret, start_one, stop_one),
        cmocka_unit_test_setup_teardown(needs_a_file_that_can_be_read, start_one, stop_one),
        cmocka_unit_test_setup_teardown(needs_a_host_that_is_there, start_one, stop_one),
        cmocka_unit_test_setup_teardown(needs_a_file_of_certificates, start_one, stop_one),
        cmocka_unit_test_setup_teardown(does_not_wait_for_ever, start_one, stop_one),
        cmocka_unit_test_setup_teardown(knows_what_is_no_smtp, start_one, stop_one),
        cmocka_unit_test_setup_teardown(listens_only_so_long, start_one, stop_one),
        cmocka_unit_test_setup_teardown(survives_a_disconnect_at_every_octet, start_one, stop_one),
        cmocka_unit_test_setup_teardown(shows_only_what_is_printable, start_one, stop_one),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
