/* What nobody should send where TLS is spoken: garbage, records that were changed or cut short, and
 * more of the protocol than anybody needs. */
#include "tests/unit/tls_peer.h"

static struct peer_files files;
static struct tls_context *context;

static int make_files(void **state)
{
    char reason[TLS_REASON_SIZE];

    (void)state;
    peer_files_make(&files);
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

/* OpenSSL has one queue of errors for all connections of a thread, and takes what somebody else left
 * there for the failure of whatever it does next. */
static void is_not_misled_by_an_error_of_somebody_else(void **state)
{
    (void)state;
    struct duo duo;

    duo_establish(&duo, context, TLS1_3_VERSION);
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
            duo_establish(&duo, context, peer_versions[p]);
            duo_feed(&duo, garbage[i].octets, garbage[i].length, pieces[p]);
            assert_int_equal(duo.plain.length, 0);
            duo_has_failed(&duo, NULL);
            duo_free(&duo);

            SSL_CTX *client = peer_client_context(TLS1_3_VERSION);
            duo_init(&duo, context, client);
            SSL_CTX_free(client);
            duo_feed(&duo, garbage[i].octets, garbage[i].length, pieces[p]);
            assert_true(duo.records.length < 100);
            duo_has_failed(&duo, NULL);
            duo_free(&duo);
        }
    }
}

/* Every octet of a client's first flight spoilt in turn, and every octet of a record. */
static void fails_on_what_was_changed_on_its_way(void **state)
{
    (void)state;

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        for (size_t at = 0;; at++) {
            struct duo duo;
            char *octets;
            duo_establish(&duo, context, peer_versions[v]);
            duo_client_says(&duo, "MAIL FROM:<a@b.example>\r\n");
            if (at >= (size_t)BIO_get_mem_data(duo.outward, &octets)) {
                duo_free(&duo);
                break;
            }
            octets[at] = (char)(octets[at] ^ 0x41);
            duo_upward(&duo, TLS_FEED_MAX);
            /* A longer record only is not there yet. */
            assert_int_equal(duo.plain.length, 0);
            if (duo.status != TLS_OPEN)
                duo_has_failed(&duo, NULL);
            else
                assert_true(at == 3 || at == 4);
            duo_free(&duo);
        }
    }
}

static void waits_for_what_is_cut_short(void **state)
{
    (void)state;

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        SSL_CTX *client = peer_client_context(peer_versions[v]);
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
        duo_establish(&duo, context, TLS1_3_VERSION);
        assert_int_equal(SSL_key_update(duo.client, kinds[i]), 1);
        duo_still_talks(&duo); /* one is as it should be */
        for (int n = 0; n < 2000; n++) {
            assert_int_equal(SSL_key_update(duo.client, kinds[i]), 1);
            assert_int_equal(SSL_do_handshake(duo.client), 1);
        }
        duo_upward(&duo, TLS_FEED_MAX);
        assert_true(duo.records.length < 1000);
        duo_has_failed(&duo, "too many handshake messages");
        duo_free(&duo);
    }
}

static void refuses_renegotiation(void **state)
{
    (void)state;
    struct duo duo;

    /* An attempt is answered by an alert; what was said behind it is heard. */
    duo_establish(&duo, context, TLS1_2_VERSION);
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
 * be. OpenSSL made room for all of it at once, which is refused at once; later versions make room
 * for what has come, which is refused when it is too much. */
static void makes_no_room_for_a_promise(void **state)
{
    (void)state;
    enum { RECORDS = 3 };
    static const char hello[] = "\x16\x03\x01\x00\x06\x01\x01\xff\xff\x03\x03";
    static const char record[5 + TLS_RECORD_MAX] = "\x16\x03\x01\x40";
    struct duo duo;
    SSL_CTX *client = peer_client_context(TLS1_3_VERSION);

    duo_init(&duo, context, client);
    SSL_CTX_free(client);
    duo_feed(&duo, hello, sizeof hello - 1, TLS_FEED_MAX);
    for (int i = 0; i < RECORDS && duo.status == TLS_OPEN; i++)
        duo_feed(&duo, record, sizeof record, TLS_FEED_MAX);
    duo_has_failed(&duo, NULL);
    duo_free(&duo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_not_misled_by_an_error_of_somebody_else),
        cmocka_unit_test(fails_on_garbage),
        cmocka_unit_test(fails_on_what_was_changed_on_its_way),
        cmocka_unit_test(waits_for_what_is_cut_short),
        cmocka_unit_test(bounds_key_updates),
        cmocka_unit_test(refuses_renegotiation),
        cmocka_unit_test(makes_no_room_for_a_promise),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
