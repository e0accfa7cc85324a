/* TLS from handshake to close_notify against a client of OpenSSL's own, whole and octet by octet;
 * what a client must not do; and every way in which a pair of files can be wrong. */
#include "tests/unit/tls_peer.h"

#include <malloc.h>
#include <sys/stat.h>

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

enum { VERSIONS = sizeof versions / sizeof versions[0], DAY = 24 * 60 * 60 };

static struct peer_files files;
static struct tls_context *context;

static int make_files(void **state)
{
    EVP_PKEY *rsa, *ec, *other;
    char path[PEER_PATH_SIZE], reason[TLS_REASON_SIZE];
    FILE *file;

    (void)state;
    /* First of all, as in smtpd: OpenSSL lets its memory be bounded before it has any. */
    assert_null(tls_context_load("/nowhere", "/nowhere", reason));
    rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    other = EVP_EC_gen("P-256");
    strcpy(files.directory, "/tmp/mayfly-tls-XXXXXX");
    assert_non_null(mkdtemp(files.directory));
    peer_make_pair(&files, "rsa", rsa, -DAY, DAY);
    peer_make_pair(&files, "ec", ec, -DAY, DAY);
    peer_make_pair(&files, "other", other, -DAY, DAY);
    peer_make_pair(&files, "expired", ec, -2L * DAY, -DAY);
    peer_make_pair(&files, "future", ec, DAY, 2L * DAY);
    peer_write_key(peer_path(&files, "encrypted.key", path), ec, "secret");
    file = fopen(peer_path(&files, "garbage.pem", path), "w");
    assert_non_null(file);
    fputs("-----BEGIN CERTIFICATE-----\nnot base64 at all\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    fclose(fopen(peer_path(&files, "empty.pem", path), "w"));
    assert_int_equal(mkdir(peer_path(&files, "directory.pem", path), 0700), 0);
    assert_int_equal(mkfifo(peer_path(&files, "pipe", path), 0600), 0);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(other);
    context = peer_load(&files, "ec.crt", "ec.key", reason);
    assert_non_null(context);
    assert_string_equal(reason, "");
    return 0;
}

static int remove_files(void **state)
{
    static const char *const names[] = {
        "rsa.crt",       "rsa.key",     "ec.crt",      "ec.key",        "other.crt",
        "other.key",     "expired.crt", "expired.key", "future.crt",    "future.key",
        "encrypted.key", "garbage.pem", "empty.pem",   "directory.pem", "pipe",
    };
    char path[PEER_PATH_SIZE];

    (void)state;
    tls_context_free(context);
    tls_context_free(NULL);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        remove(peer_path(&files, names[i], path));
    return rmdir(files.directory);
}

/* A duo with the handshake done. */
static void establish(struct duo *duo, const struct tls_context *with, int version)
{
    SSL_CTX *client = peer_client_context(version);

    duo_init(duo, with, client);
    SSL_CTX_free(client);
    assert_true(duo_shake(duo, TLS_FEED_MAX));
    assert_int_equal(duo->records.length, 0);
    assert_int_equal(duo->plain.length, 0);
}

static void client_says(struct duo *duo, const char *text)
{
    assert_int_equal(SSL_write(duo->client, text, (int)strlen(text)), (int)strlen(text));
}

static void server_heard(struct duo *duo, const char *text)
{
    assert_int_equal(duo->plain.length, strlen(text));
    assert_memory_equal(duo->plain.data, text, strlen(text));
    buffer_clear(&duo->plain);
}

/* It lives: a word each way. */
static void still_talks(struct duo *duo)
{
    char got[100];

    client_says(duo, "NOOP\r\n");
    duo_upward(duo, TLS_FEED_MAX);
    assert_int_equal(duo->status, TLS_OPEN);
    server_heard(duo, "NOOP\r\n");
    assert_true(tls_write(duo->tls, "250 ok\r\n", 8, &duo->records));
    duo_downward(duo);
    assert_int_equal(duo_client_read(duo, got, sizeof got), 8);
    assert_memory_equal(got, "250 ok\r\n", 8);
}

/* It is over, for that reason if one is given, and stays so. */
static void has_failed(struct duo *duo, const char *reason)
{
    assert_int_equal(duo->status, TLS_FAILED);
    assert_false(tls_established(duo->tls));
    if (reason != NULL)
        assert_string_equal(tls_reason(duo->tls), reason);
    assert_true(strlen(tls_reason(duo->tls)) > 0);
    buffer_clear(&duo->records);
    buffer_clear(&duo->plain);
    assert_int_equal(tls_feed(duo->tls, "x", 1, &duo->plain, &duo->records), TLS_FAILED);
    assert_false(tls_write(duo->tls, "x", 1, &duo->records));
    tls_end(duo->tls, &duo->records);
    assert_int_equal(duo->records.length, 0);
    assert_int_equal(duo->plain.length, 0);
    assert_int_equal(ERR_peek_error(), 0);
}

static void shakes_hands_in_any_fragmentation(void **state)
{
    (void)state;
    static const struct {
        const char *certificate, *key;
    } pairs[] = {{"rsa.crt", "rsa.key"}, {"ec.crt", "ec.key"}};
    static const size_t pieces[] = {TLS_FEED_MAX, 100, 5, 1};
    static const char *const names[VERSIONS] = {"TLSv1.2", "TLSv1.3"};

    for (size_t p = 0; p < 2; p++) {
        char reason[TLS_REASON_SIZE];
        struct tls_context *with = peer_load(&files, pairs[p].certificate, pairs[p].key, reason);
        assert_non_null(with);
        for (size_t v = 0; v < VERSIONS; v++) {
            SSL_CTX *client = peer_client_context(versions[v]);
            for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
                struct duo duo;
                duo_init(&duo, with, client);
                assert_false(tls_established(duo.tls));
                assert_false(tls_write(duo.tls, "early", 5, &duo.records));
                assert_string_equal(tls_reason(duo.tls), "");
                assert_true(duo_shake(&duo, pieces[i]));
                assert_string_equal(tls_version(duo.tls), names[v]);
                assert_string_equal(tls_version(duo.tls), SSL_get_version(duo.client));
                assert_string_equal(tls_cipher(duo.tls), SSL_get_cipher_name(duo.client));
                still_talks(&duo);
                duo_free(&duo);
            }
            SSL_CTX_free(client);
        }
        tls_context_free(with);
    }
}

/* A first guess at the group that we do not share (HelloRetryRequest, RFC 8446, section 4.1.4), and a
 * ClientHello as long as one that fills a record. */
static void shakes_hands_with_the_unusual(void **state)
{
    (void)state;
    static const size_t pieces[] = {TLS_FEED_MAX, 1};
    unsigned char protocols[15 * 1024];

    memset(protocols, 100, sizeof protocols);
    for (size_t i = 0; i < 2; i++) {
        struct duo duo;
        SSL_CTX *client = peer_client_context(TLS1_3_VERSION);
        assert_int_equal(SSL_CTX_set1_groups_list(client, "P-521:P-384"), 1);
        duo_init(&duo, context, client);
        assert_true(duo_shake(&duo, pieces[i]));
        still_talks(&duo);
        duo_free(&duo);
        SSL_CTX_free(client);

        client = peer_client_context(versions[i]);
        assert_int_equal(SSL_CTX_set_alpn_protos(client, protocols, 101 * (sizeof protocols / 101)),
                         0);
        duo_init(&duo, context, client);
        assert_true(duo_shake(&duo, pieces[i]));
        still_talks(&duo);
        duo_free(&duo);
        SSL_CTX_free(client);
    }
}

static void refuses_what_is_older_than_1_2(void **state)
{
    (void)state;
    static const int old[] = {TLS1_VERSION, TLS1_1_VERSION};

    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        struct duo duo;
        SSL_CTX *client = peer_client_context(old[i]);
        duo_init(&duo, context, client);
        SSL_CTX_free(client);
        assert_int_equal(SSL_do_handshake(duo.client), -1);
        duo_upward(&duo, TLS_FEED_MAX);
        assert_true(duo.records.length > 0); /* an alert says why */
        assert_int_equal(duo.records.data[0], SSL3_RT_ALERT);
        has_failed(&duo, "unsupported protocol");
        duo_free(&duo);
    }
}

static void carries_data_both_ways_in_any_fragmentation(void **state)
{
    (void)state;
    static const size_t pieces[] = {TLS_FEED_MAX, 16384 + 5, 1000, 7, 1};
    enum { SIZE = 100 * 1000 };
    char *want = malloc(SIZE), *got = malloc(SIZE);
    struct buffer heard;

    assert_non_null(want);
    assert_non_null(got);
    buffer_init(&heard, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        want[i] = (char)(i * 7 + i / 256);
    for (size_t v = 0; v < VERSIONS; v++) {
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
            struct duo duo;
            char *octets;
            size_t length;
            establish(&duo, context, versions[v]);
            assert_int_equal(SSL_write(duo.client, want, SIZE), SIZE);
            length = (size_t)BIO_get_mem_data(duo.outward, &octets);
            buffer_clear(&heard);
            for (size_t at = 0; at < length; at += pieces[i]) {
                size_t part = pieces[i] < length - at ? pieces[i] : length - at;
                duo_feed(&duo, octets + at, part, part);
                assert_int_equal(duo.status, TLS_OPEN);
                assert_true(duo.plain.length <= part + TLS_RECORD_MAX);
                assert_true(buffer_append(&heard, duo.plain.data, duo.plain.length));
                buffer_clear(&duo.plain);
            }
            assert_int_equal(heard.length, SIZE);
            assert_memory_equal(heard.data, want, SIZE);
            for (size_t at = 0; at < SIZE;) {
                size_t part = pieces[i] * 11 < SIZE - at ? pieces[i] * 11 : SIZE - at;
                if (part > TLS_FEED_MAX)
                    part = TLS_FEED_MAX;
                assert_true(tls_write(duo.tls, want + at, part, &duo.records));
                duo_downward(&duo);
                at += part;
            }
            assert_true(tls_write(duo.tls, "", 0, &duo.records));
            assert_int_equal(duo.records.length, 0);
            assert_int_equal(duo_client_read(&duo, got, SIZE), SIZE);
            assert_memory_equal(got, want, SIZE);
            duo_free(&duo);
        }
    }
    buffer_free(&heard);
    free(want);
    free(got);
}

/* The most that one call may give: a record that had come all but its last octet, and then as much
 * as fits into a read. */
static void has_room_for_the_plaintext_of_any_feed(void **state)
{
    (void)state;
    enum { SIZE = TLS_FEED_MAX + TLS_RECORD_MAX };
    char *octets, *zeros = calloc(1, SIZE);

    for (size_t v = 0; v < VERSIONS; v++) {
        struct duo duo;
        long first;
        establish(&duo, context, versions[v]);
        assert_int_equal(SSL_write(duo.client, zeros, TLS_RECORD_MAX), TLS_RECORD_MAX);
        first = BIO_get_mem_data(duo.outward, &octets);
        assert_int_equal(SSL_write(duo.client, zeros, TLS_FEED_MAX), TLS_FEED_MAX);
        BIO_get_mem_data(duo.outward, &octets);
        duo_feed(&duo, octets, (size_t)first - 1, TLS_FEED_MAX);
        assert_int_equal(duo.plain.length, 0);
        duo_feed(&duo, octets + first - 1, TLS_FEED_MAX, TLS_FEED_MAX);
        assert_int_equal(duo.status, TLS_OPEN);
        assert_int_equal(duo.plain.length, TLS_FEED_MAX);
        duo_free(&duo);
    }
    free(zeros);
}

static void fails_where_the_caller_has_no_room(void **state)
{
    (void)state;
    struct duo duo;

    establish(&duo, context, TLS1_3_VERSION);
    duo.plain.maximum = TLS_RECORD_MAX - 1;
    client_says(&duo, "x");
    duo_upward(&duo, TLS_FEED_MAX);
    has_failed(&duo, "no memory");
    duo_free(&duo);

    establish(&duo, context, TLS1_3_VERSION);
    buffer_free(&duo.records);
    buffer_init(&duo.records, 10);
    assert_false(tls_write(duo.tls, "250 ok\r\n", 8, &duo.records));
    assert_true(duo.records.failed);
    duo.status = TLS_FAILED;
    has_failed(&duo, "too much to send");
    duo_free(&duo);
}

static void ends_where_the_client_says_so(void **state)
{
    (void)state;
    static const size_t pieces[] = {TLS_FEED_MAX, 1};

    for (size_t v = 0; v < VERSIONS; v++) {
        for (size_t i = 0; i < 2; i++) {
            struct duo duo;
            char octet;
            establish(&duo, context, versions[v]);
            client_says(&duo, "BDAT 100\r\nhalf of it");
            SSL_shutdown(duo.client);
            BIO_write(duo.outward, "X", 1); /* in the clear, as CVE-2026-45185 has it */
            duo_upward(&duo, pieces[i]);
            assert_int_equal(duo.status, TLS_ENDED);
            server_heard(&duo, "BDAT 100\r\nhalf of it");
            assert_int_equal(tls_feed(duo.tls, "XYZ", 3, &duo.plain, &duo.records), TLS_ENDED);
            assert_int_equal(duo.plain.length, 0);
            assert_string_equal(tls_reason(duo.tls), "");

            tls_end(duo.tls, &duo.records);
            assert_true(duo.records.length > 0);
            duo_downward(&duo);
            tls_end(duo.tls, &duo.records); /* once */
            assert_int_equal(duo.records.length, 0);
            assert_string_equal(tls_reason(duo.tls), "");
            assert_int_equal(SSL_read(duo.client, &octet, 1), 0);
            assert_int_equal(SSL_get_error(duo.client, 0), SSL_ERROR_ZERO_RETURN);
            duo_free(&duo);
        }
    }
}

static void says_when_it_ends(void **state)
{
    (void)state;
    struct duo duo;
    char octet;
    SSL_CTX *client = peer_client_context(TLS1_3_VERSION);

    duo_init(&duo, context, client);
    SSL_CTX_free(client);
    tls_end(duo.tls, &duo.records); /* nothing to end yet */
    assert_int_equal(duo.records.length, 0);
    assert_true(duo_shake(&duo, TLS_FEED_MAX));
    tls_end(duo.tls, &duo.records);
    duo_downward(&duo);
    tls_end(duo.tls, &duo.records); /* once */
    assert_int_equal(duo.records.length, 0);
    assert_string_equal(tls_reason(duo.tls), "");
    assert_int_equal(SSL_read(duo.client, &octet, 1), 0);
    assert_int_equal(SSL_get_error(duo.client, 0), SSL_ERROR_ZERO_RETURN);
    duo_free(&duo);
}

/* OpenSSL has one queue of errors for all connections of a thread, and takes what somebody else left
 * there for the failure of whatever it does next. */
static void is_not_misled_by_an_error_of_somebody_else(void **state)
{
    (void)state;
    struct duo duo;

    establish(&duo, context, TLS1_3_VERSION);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    assert_int_equal(tls_feed(duo.tls, "\x17", 1, &duo.plain, &duo.records), TLS_OPEN);
    assert_string_equal(tls_reason(duo.tls), "");
    duo_free(&duo);
}

static const struct {
    const char *octets;
    size_t length;
} garbage[] = {
#define OCTETS(text)                                                                               \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }
    OCTETS("EHLO client.example\r\n"),
    OCTETS("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    OCTETS("\0\0\0\0\0\0\0\0\0\0\0\0"),
    OCTETS("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    OCTETS("\x16\x03\x01\xff\xff\x01\x00\x00"),                     /* too long a record */
    OCTETS("\x16\x03\x01\x00\x04\x02\x00\x00\x00"),                 /* a ServerHello */
    OCTETS("\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03"),         /* a ClientHello cut short */
    OCTETS("\x17\x03\x03\x00\x05hello"),                            /* data first */
    OCTETS("\x15\x03\x01\x00\x02\x02\x28"),                         /* an alert first */
    OCTETS("\x80\x0b\x01\x00\x02\x00\x00\x00\x00\x00\x02\x10\x01"), /* SSL 2's hello */
};

static void fails_on_garbage(void **state)
{
    (void)state;
    static const size_t pieces[] = {TLS_FEED_MAX, 1};

    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        for (size_t p = 0; p < 2; p++) {
            struct duo duo;
            establish(&duo, context, versions[p]);
            duo_feed(&duo, garbage[i].octets, garbage[i].length, pieces[p]);
            assert_int_equal(duo.plain.length, 0);
            has_failed(&duo, NULL);
            duo_free(&duo);

            SSL_CTX *client = peer_client_context(TLS1_3_VERSION);
            duo_init(&duo, context, client);
            SSL_CTX_free(client);
            duo_feed(&duo, garbage[i].octets, garbage[i].length, pieces[p]);
            assert_true(duo.records.length < 100);
            has_failed(&duo, NULL);
            duo_free(&duo);
        }
    }
}

/* Every octet of a client's first flight spoilt in turn, and every octet of a record. */
static void fails_on_what_was_changed_on_its_way(void **state)
{
    (void)state;

    for (size_t v = 0; v < VERSIONS; v++) {
        for (size_t at = 0;; at++) {
            struct duo duo;
            char *octets;
            establish(&duo, context, versions[v]);
            client_says(&duo, "MAIL FROM:<a@b.example>\r\n");
            if (at >= (size_t)BIO_get_mem_data(duo.outward, &octets)) {
                duo_free(&duo);
                break;
            }
            octets[at] = (char)(octets[at] ^ 0x41);
            duo_upward(&duo, TLS_FEED_MAX);
            /* A longer record only is not there yet. */
            assert_int_equal(duo.plain.length, 0);
            if (duo.status != TLS_OPEN)
                has_failed(&duo, NULL);
            else
                assert_true(at == 3 || at == 4);
            duo_free(&duo);
        }
    }
}

static void waits_for_what_is_cut_short(void **state)
{
    (void)state;

    for (size_t v = 0; v < VERSIONS; v++) {
        SSL_CTX *client = peer_client_context(versions[v]);
        char *octets;
        size_t length;
        for (size_t cut = 0;; cut += 13) {
            struct duo duo;
            duo_init(&duo, context, client);
            assert_int_equal(SSL_do_handshake(duo.client), -1);
            length = (size_t)BIO_get_mem_data(duo.outward, &octets);
            if (cut < length) {
                duo_feed(&duo, octets, cut, TLS_FEED_MAX);
                assert_int_equal(duo.status, TLS_OPEN);
                assert_int_equal(duo.records.length, 0);
                assert_false(tls_established(duo.tls));
            }
            duo_free(&duo);
            if (cut >= length)
                break;
        }
        SSL_CTX_free(client);
    }
}

/* A read full of requests to change keys makes us neither work nor answer without bound. */
static void bounds_key_updates(void **state)
{
    (void)state;
    static const int kinds[] = {SSL_KEY_UPDATE_REQUESTED, SSL_KEY_UPDATE_NOT_REQUESTED};

    for (size_t i = 0; i < 2; i++) {
        struct duo duo;
        establish(&duo, context, TLS1_3_VERSION);
        assert_int_equal(SSL_key_update(duo.client, kinds[i]), 1);
        still_talks(&duo); /* one is as it should be */
        for (int n = 0; n < 2000; n++) {
            assert_int_equal(SSL_key_update(duo.client, kinds[i]), 1);
            assert_int_equal(SSL_do_handshake(duo.client), 1);
        }
        duo_upward(&duo, TLS_FEED_MAX);
        assert_true(duo.records.length < 1000);
        has_failed(&duo, "too many handshake messages");
        duo_free(&duo);
    }
}

static void refuses_renegotiation(void **state)
{
    (void)state;
    struct duo duo;

    /* An attempt is answered by an alert; what was said behind it is heard. */
    establish(&duo, context, TLS1_2_VERSION);
    assert_int_equal(SSL_renegotiate(duo.client), 1);
    SSL_do_handshake(duo.client);
    ERR_clear_error();
    duo_upward(&duo, TLS_FEED_MAX);
    assert_int_equal(duo.status, TLS_OPEN);
    assert_true(tls_established(duo.tls));
    assert_true(duo.records.length > 0 && duo.records.length < 100);
    assert_int_equal(duo.records.data[0], SSL3_RT_ALERT);
    assert_int_equal(duo.plain.length, 0);
    duo_downward(&duo);
    SSL_do_handshake(duo.client); /* our client takes the alert for the end */
    ERR_clear_error();
    assert_true(tls_write(duo.tls, "250 ok\r\n", 8, &duo.records));
    duo_free(&duo);
}

/* What is held while a ClientHello is awaited does not depend on how long the client says it will
 * be. */
static void makes_no_room_for_a_promise(void **state)
{
    (void)state;
    static const char hello[] = "\x16\x03\x01\x00\x06\x01\x01\xff\xff\x03\x03";
    struct duo duo;
    SSL_CTX *client = peer_client_context(TLS1_3_VERSION);

    duo_init(&duo, context, client);
    SSL_CTX_free(client);
    duo_feed(&duo, hello, sizeof hello - 1, TLS_FEED_MAX);
    has_failed(&duo, NULL);
    duo_free(&duo);
}

static void comes_back_with_a_ticket(void **state)
{
    (void)state;

    for (size_t v = 0; v < VERSIONS; v++) {
        SSL_CTX *client = peer_client_context(versions[v]);
        SSL_SESSION *session;
        struct duo duo;
        duo_init(&duo, context, client);
        assert_true(duo_shake(&duo, TLS_FEED_MAX));
        still_talks(&duo);
        session = SSL_get1_session(duo.client);
        SSL_set_shutdown(duo.client, SSL_SENT_SHUTDOWN); /* else it forgets the session */
        duo_free(&duo);

        duo_init(&duo, context, client);
        SSL_set_session(duo.client, session);
        assert_true(duo_shake(&duo, TLS_FEED_MAX));
        assert_true(SSL_session_reused(duo.client));
        assert_int_equal(SSL_SESSION_get_max_early_data(session), 0);
        still_talks(&duo);
        duo_free(&duo);
        SSL_SESSION_free(session);
        SSL_CTX_free(client);
    }
}

/* The name in the certificate that the client was shown. */
static void assert_shown(const struct duo *duo, const char *want)
{
    X509 *shown = SSL_get1_peer_certificate(duo->client);
    char got[100];

    assert_non_null(shown);
    assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, got,
                                          sizeof got) > 0);
    assert_string_equal(got, want);
    X509_free(shown);
}

static void old_connections_outlive_a_reload(void **state)
{
    (void)state;
    char reason[TLS_REASON_SIZE];

    for (size_t v = 0; v < VERSIONS; v++) {
        struct tls_context *before = peer_load(&files, "rsa.crt", "rsa.key", reason), *after;
        SSL_CTX *client = peer_client_context(versions[v]);
        struct duo established, shaking, fresh;
        establish(&established, before, versions[v]);
        duo_init(&shaking, before, client);
        assert_int_equal(SSL_do_handshake(shaking.client), -1);
        duo_upward(&shaking, 10);

        after = peer_load(&files, "other.crt", "other.key", reason);
        assert_non_null(after);
        tls_context_free(before);
        still_talks(&established);
        assert_true(duo_shake(&shaking, TLS_FEED_MAX));
        still_talks(&shaking);
        duo_init(&fresh, after, client);
        assert_true(duo_shake(&fresh, TLS_FEED_MAX));
        assert_shown(&established, "rsa");
        assert_shown(&shaking, "rsa");
        assert_shown(&fresh, "other");

        duo_free(&established);
        duo_free(&shaking);
        duo_free(&fresh);
        tls_context_free(after);
        SSL_CTX_free(client);
    }
}

static const struct {
    const char *certificate, *key;
    const char *file, *want; /* what the reason says */
} broken[] = {
    {"none.crt", "ec.key", "none.crt", "No such file or directory"},
    {"ec.crt", "none.key", "none.key", "No such file or directory"},
    {"directory.pem", "ec.key", "directory.pem", "it is not a plain file"},
    {"ec.crt", "directory.pem", "directory.pem", "it is not a plain file"},
    {"pipe", "ec.key", "certificate", "it is not a plain file"},
    {"ec.crt", "pipe", "key", "it is not a plain file"},
    {"empty.pem", "ec.key", "certificate", "nothing of the kind is in it"},
    {"ec.crt", "empty.pem", "key", "nothing of the kind is in it"},
    {"garbage.pem", "ec.key", "certificate", "bad base64 decode"},
    {"ec.crt", "garbage.pem", "key", "nothing of the kind is in it"},
    {"ec.key", "ec.key", "certificate", "nothing of the kind is in it"},
    {"ec.crt", "ec.crt", "key", "nothing of the kind is in it"},
    {"ec.crt", "other.key", "other.key", "it does not belong to certificate"},
    {"ec.crt", "rsa.key", "rsa.key", "it does not belong to certificate"},
    {"ec.crt", "encrypted.key", "encrypted.key", "it is encrypted"},
};

static void says_what_is_wrong_with_a_pair(void **state)
{
    (void)state;
    char reason[TLS_REASON_SIZE];

    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_null(peer_load(&files, broken[i].certificate, broken[i].key, reason));
        if (strstr(reason, broken[i].file) == NULL || strstr(reason, broken[i].want) == NULL)
            print_message("want %s, got %s\n", broken[i].want, reason);
        assert_non_null(strstr(reason, broken[i].file));
        assert_non_null(strstr(reason, broken[i].want));
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void says_that_a_file_may_not_be_read(void **state)
{
    (void)state;
    char reason[TLS_REASON_SIZE], path[PEER_PATH_SIZE];
    uid_t before = geteuid();
    bool root = before == 0;

    chmod(peer_path(&files, "other.key", path), 0);
    if (root) { /* for whom no file is unreadable */
        assert_int_equal(chmod(files.directory, 0711), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    assert_null(peer_load(&files, "other.crt", "other.key", reason));
    if (root)
        assert_int_equal(seteuid(before), 0);
    chmod(path, 0600);
    assert_non_null(strstr(reason, "other.key: Permission denied"));
}

static void warns_of_a_certificate_of_another_time(void **state)
{
    (void)state;
    static const char *const names[][3] = {
        {"expired.crt", "expired.key", "expired.crt: it has expired"},
        {"future.crt", "future.key", "future.crt: it is not valid yet"},
    };

    for (size_t i = 0; i < 2; i++) {
        char reason[TLS_REASON_SIZE];
        struct duo duo;
        struct tls_context *with = peer_load(&files, names[i][0], names[i][1], reason);
        assert_non_null(with);
        assert_non_null(strstr(reason, names[i][2]));
        establish(&duo, with, TLS1_3_VERSION);
        still_talks(&duo);
        duo_free(&duo);
        tls_context_free(with);
    }
}

/* The figures of the header, with a little room. */
static void keeps_little_for_the_silent(void **state)
{
    (void)state;
    enum { COUNT = 50, WANT = 15 * 1024 };
    static struct duo duos[COUNT];

    if (mallinfo2().uordblks == 0)
        skip(); /* a sanitizer's heap does not say what is in use */
    for (size_t v = 0; v < VERSIONS; v++) {
        size_t before, got;
        for (size_t i = 0; i < COUNT; i++) {
            establish(&duos[i], context, versions[v]);
            still_talks(&duos[i]);
        }
        before = mallinfo2().uordblks;
        for (size_t i = 0; i < COUNT; i++) {
            tls_free(duos[i].tls);
            duos[i].tls = NULL;
        }
        got = (before - mallinfo2().uordblks) / COUNT;
        print_message("an idle connection: %zu bytes\n", got);
        assert_true(got > 1024 && got < WANT);
        for (size_t i = 0; i < COUNT; i++)
            duo_free(&duos[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shakes_hands_in_any_fragmentation),
        cmocka_unit_test(shakes_hands_with_the_unusual),
        cmocka_unit_test(refuses_what_is_older_than_1_2),
        cmocka_unit_test(carries_data_both_ways_in_any_fragmentation),
        cmocka_unit_test(has_room_for_the_plaintext_of_any_feed),
        cmocka_unit_test(fails_where_the_caller_has_no_room),
        cmocka_unit_test(ends_where_the_client_says_so),
        cmocka_unit_test(says_when_it_ends),
        cmocka_unit_test(is_not_misled_by_an_error_of_somebody_else),
        cmocka_unit_test(fails_on_garbage),
        cmocka_unit_test(fails_on_what_was_changed_on_its_way),
        cmocka_unit_test(waits_for_what_is_cut_short),
        cmocka_unit_test(bounds_key_updates),
        cmocka_unit_test(refuses_renegotiation),
        cmocka_unit_test(makes_no_room_for_a_promise),
        cmocka_unit_test(comes_back_with_a_ticket),
        cmocka_unit_test(old_connections_outlive_a_reload),
        cmocka_unit_test(says_what_is_wrong_with_a_pair),
        cmocka_unit_test(says_that_a_file_may_not_be_read),
        cmocka_unit_test(warns_of_a_certificate_of_another_time),
        cmocka_unit_test(keeps_little_for_the_silent),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
