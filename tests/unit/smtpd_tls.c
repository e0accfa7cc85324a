/* TLS from handshake to close_notify against a client of OpenSSL's own, whole and octet by octet, and
 * what is held meanwhile. */
#include "tests/unit/tls_peer.h"

#include <malloc.h>

static struct peer_files files;
static struct tls_context *context;

static int make_files(void **state)
{
    char reason[TLS_REASON_SIZE];
    EVP_PKEY *rsa;

    (void)state;
    peer_files_make(&files);
    rsa = EVP_RSA_gen(2048);
    peer_make_pair(&files, "rsa", rsa, -PEER_DAY, PEER_DAY);
    EVP_PKEY_free(rsa);
    context = peer_load(&files, "ec.crt", "ec.key", reason);
    assert_non_null(context);
    assert_string_equal(reason, "");
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    tls_context_free(context);
    return peer_files_remove(&files);
}

static void shakes_hands_in_any_fragmentation(void **state)
{
    (void)state;
    static const struct {
        const char *certificate, *key;
    } pairs[] = {{"rsa.crt", "rsa.key"}, {"ec.crt", "ec.key"}};
    static const size_t pieces[] = {TLS_FEED_MAX, 100, 5, 1};
    static const char *const names[PEER_VERSIONS] = {"TLSv1.2", "TLSv1.3"};

    for (size_t p = 0; p < 2; p++) {
        char reason[TLS_REASON_SIZE];
        struct tls_context *with = peer_load(&files, pairs[p].certificate, pairs[p].key, reason);
        assert_non_null(with);
        for (size_t v = 0; v < PEER_VERSIONS; v++) {
            SSL_CTX *client = peer_client_context(peer_versions[v]);
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
                duo_still_talks(&duo);
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
        duo_still_talks(&duo);
        duo_free(&duo);
        SSL_CTX_free(client);

        client = peer_client_context(peer_versions[i]);
        assert_int_equal(SSL_CTX_set_alpn_protos(client, protocols, 101 * (sizeof protocols / 101)),
                         0);
        duo_init(&duo, context, client);
        assert_true(duo_shake(&duo, pieces[i]));
        duo_still_talks(&duo);
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
        duo_has_failed(&duo, "unsupported protocol");
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
    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
            struct duo duo;
            char *octets;
            size_t length;
            duo_establish(&duo, context, peer_versions[v]);
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

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        struct duo duo;
        long first;
        duo_establish(&duo, context, peer_versions[v]);
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

    duo_establish(&duo, context, TLS1_3_VERSION);
    duo.plain.maximum = TLS_RECORD_MAX - 1;
    duo_client_says(&duo, "x");
    duo_upward(&duo, TLS_FEED_MAX);
    duo_has_failed(&duo, "no memory");
    duo_free(&duo);

    duo_establish(&duo, context, TLS1_3_VERSION);
    buffer_free(&duo.records);
    buffer_init(&duo.records, 10);
    assert_false(tls_write(duo.tls, "250 ok\r\n", 8, &duo.records));
    assert_true(duo.records.failed);
    duo.status = TLS_FAILED;
    duo_has_failed(&duo, "too much to send");
    duo_free(&duo);
}

static void ends_where_the_client_says_so(void **state)
{
    (void)state;
    static const size_t pieces[] = {TLS_FEED_MAX, 1};

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        for (size_t i = 0; i < 2; i++) {
            struct duo duo;
            char octet;
            duo_establish(&duo, context, peer_versions[v]);
            duo_client_says(&duo, "BDAT 100\r\nhalf of it");
            SSL_shutdown(duo.client);
            BIO_write(duo.outward, "X", 1); /* in the clear, as CVE-2026-45185 has it */
            duo_upward(&duo, pieces[i]);
            assert_int_equal(duo.status, TLS_ENDED);
            duo_server_heard(&duo, "BDAT 100\r\nhalf of it");
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

static void comes_back_with_a_ticket(void **state)
{
    (void)state;

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        SSL_CTX *client = peer_client_context(peer_versions[v]);
        SSL_SESSION *session;
        struct duo duo;
        duo_init(&duo, context, client);
        assert_true(duo_shake(&duo, TLS_FEED_MAX));
        duo_still_talks(&duo);
        session = SSL_get1_session(duo.client);
        SSL_set_shutdown(duo.client, SSL_SENT_SHUTDOWN); /* else it forgets the session */
        duo_free(&duo);

        duo_init(&duo, context, client);
        SSL_set_session(duo.client, session);
        assert_true(duo_shake(&duo, TLS_FEED_MAX));
        assert_true(SSL_session_reused(duo.client));
        assert_int_equal(SSL_SESSION_get_max_early_data(session), 0);
        duo_still_talks(&duo);
        duo_free(&duo);
        SSL_SESSION_free(session);
        SSL_CTX_free(client);
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
    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        size_t before, got;
        for (size_t i = 0; i < COUNT; i++) {
            duo_establish(&duos[i], context, peer_versions[v]);
            duo_still_talks(&duos[i]);
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
        cmocka_unit_test(comes_back_with_a_ticket),
        cmocka_unit_test(keeps_little_for_the_silent),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
