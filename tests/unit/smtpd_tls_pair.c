/* A certificate and its key: every way in which their files can be wrong, what is said of that, and
 * that a new pair leaves the connections on the old one alone. */
#include "tests/unit/tls_peer.h"

#include <sys/stat.h>

static struct peer_files files;

static int make_files(void **state)
{
    char path[PEER_PATH_SIZE];
    EVP_PKEY *rsa, *other;
    FILE *file;

    (void)state;
    peer_files_make(&files);
    other = EVP_EC_gen("P-256");
    rsa = EVP_RSA_gen(2048);
    peer_make_pair(&files, "rsa", rsa, -PEER_DAY, PEER_DAY);
    peer_make_pair(&files, "other", other, -PEER_DAY, PEER_DAY);
    peer_make_pair(&files, "expired", other, -2L * PEER_DAY, -PEER_DAY);
    peer_make_pair(&files, "future", other, PEER_DAY, 2L * PEER_DAY);
    peer_write_key(peer_path(&files, "encrypted.key", path), other, "secret");
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(other);
    file = fopen(peer_path(&files, "garbage.pem", path), "w");
    assert_non_null(file);
    fputs("-----BEGIN CERTIFICATE-----\nnot base64 at all\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    fclose(fopen(peer_path(&files, "empty.pem", path), "w"));
    assert_int_equal(mkdir(peer_path(&files, "directory.pem", path), 0700), 0);
    assert_int_equal(mkfifo(peer_path(&files, "pipe", path), 0600), 0);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    return peer_files_remove(&files);
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

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        struct tls_context *before = peer_load(&files, "rsa.crt", "rsa.key", reason), *after;
        SSL_CTX *client = peer_client_context(peer_versions[v]);
        struct duo established, shaking, fresh;
        duo_establish(&established, before, peer_versions[v]);
        duo_init(&shaking, before, client);
        assert_int_equal(SSL_do_handshake(shaking.client), -1);
        duo_upward(&shaking, 10);

        after = peer_load(&files, "other.crt", "other.key", reason);
        assert_non_null(after);
        assert_string_equal(reason, "");
        tls_context_free(NULL);
        tls_context_free(before);
        duo_still_talks(&established);
        assert_true(duo_shake(&shaking, TLS_FEED_MAX));
        duo_still_talks(&shaking);
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
        duo_establish(&duo, with, TLS1_3_VERSION);
        duo_still_talks(&duo);
        duo_free(&duo);
        tls_context_free(with);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_connections_outlive_a_reload),
        cmocka_unit_test(says_what_is_wrong_with_a_pair),
        cmocka_unit_test(says_that_a_file_may_not_be_read),
        cmocka_unit_test(warns_of_a_certificate_of_another_time),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
