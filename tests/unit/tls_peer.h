/* The other end of smtpd/tls.c, for its unit tests: certificates made on the spot, and a client of
 * OpenSSL's own that talks through memory. */
#ifndef TESTS_UNIT_TLS_PEER_H
#define TESTS_UNIT_TLS_PEER_H

#include "smtpd/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PEER_PATH_SIZE = 100, PEER_DAY = 24 * 60 * 60 };

static const int peer_versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
enum { PEER_VERSIONS = sizeof peer_versions / sizeof peer_versions[0] };

/* A directory with pairs of certificate and key. */
struct peer_files {
    char directory[40];
};

static inline const char *peer_path(const struct peer_files *files, const char *name,
                                    char path[static PEER_PATH_SIZE])
{
    snprintf(path, PEER_PATH_SIZE, "%s/%s", files->directory, name);
    return path;
}

static inline void peer_write_key(const char *path, EVP_PKEY *key, const char *passphrase)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, passphrase != NULL ? EVP_aes_256_cbc() : NULL,
                                          (const unsigned char *)passphrase,
                                          passphrase != NULL ? (int)strlen(passphrase) : 0, NULL,
                                          NULL),
                     1);
    fclose(file);
}

/* Writes <name>.crt and <name>.key: a certificate for `name` that signs itself, valid from so many
 * seconds from now to so many. */
static inline void peer_make_pair(const struct peer_files *files, const char *name, EVP_PKEY *key,
                                  long from, long to)
{
    char path[PEER_PATH_SIZE], file_name[40];
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    FILE *file;

    assert_non_null(key);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), from));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), to));
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);

    snprintf(file_name, sizeof file_name, "%s.crt", name);
    file = fopen(peer_path(files, file_name, path), "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    fclose(file);
    snprintf(file_name, sizeof file_name, "%s.key", name);
    peer_write_key(peer_path(files, file_name, path), key, NULL);
    X509_free(certificate);
}

/* Makes the directory, with the pair `ec`. To be called before all else that is OpenSSL's, as
 * tls_context_load is in smtpd: OpenSSL lets its memory be bounded before it has any. */
static inline void peer_files_make(struct peer_files *files)
{
    char reason[TLS_REASON_SIZE];
    EVP_PKEY *key;

    assert_null(tls_context_load("/nowhere", "/nowhere", reason));
    strcpy(files->directory, "/tmp/mayfly-tls-XXXXXX");
    assert_non_null(mkdtemp(files->directory));
    key = EVP_EC_gen("P-256");
    peer_make_pair(files, "ec", key, -PEER_DAY, PEER_DAY);
    EVP_PKEY_free(key);
}

static inline int peer_remove_cb(const char *path, const struct stat *status, int type,
                                 struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline int peer_files_remove(const struct peer_files *files)
{
    return nftw(files->directory, peer_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct tls_context *peer_load(const struct peer_files *files, const char *certificate,
                                            const char *key, char reason[static TLS_REASON_SIZE])
{
    char certificate_path[PEER_PATH_SIZE], key_path[PEER_PATH_SIZE];
    return tls_context_load(peer_path(files, certificate, certificate_path),
                            peer_path(files, key, key_path), reason);
}

/* A client and a server that talk to each other. */
struct duo {
    SSL *client;
    BIO *inward, *outward; /* of the client */
    struct tls *tls;
    struct buffer plain, records;
    enum tls_status status; /* of the last tls_feed */
};

static inline SSL_CTX *peer_client_context(int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    SSL_CTX_set_security_level(context, 0); /* so that it may offer what is to be refused */
    SSL_CTX_set_cipher_list(context, "ALL");
    assert_int_equal(SSL_CTX_set_min_proto_version(context, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(context, version), 1);
    return context;
}

static inline void duo_init(struct duo *duo, const struct tls_context *context, SSL_CTX *client)
{
    *duo = (struct duo){.inward = BIO_new(BIO_s_mem()), .outward = BIO_new(BIO_s_mem())};
    duo->client = SSL_new(client);
    assert_non_null(duo->client);
    SSL_set_bio(duo->client, duo->inward, duo->outward);
    SSL_set_connect_state(duo->client);
    duo->tls = tls_open(context);
    buffer_init(&duo->plain, TLS_PLAIN_MAX);
    buffer_init(&duo->records, TLS_RECORDS_MAX);
}

static inline void duo_free(struct duo *duo)
{
    SSL_free(duo->client);
    tls_free(duo->tls);
    buffer_free(&duo->plain);
    buffer_free(&duo->records);
    ERR_clear_error();
}

/* Feeds octets in pieces of `piece`, from exact copies so that a sanitizer sees any look beyond. */
static inline void duo_feed(struct duo *duo, const char *octets, size_t length, size_t piece)
{
    for (size_t at = 0; at < length && duo->status == TLS_OPEN; at += piece) {
        size_t part = piece < length - at ? piece : length - at;
        char *exact = malloc(part);
        assert_non_null(exact);
        memcpy(exact, octets + at, part);
        duo->status = tls_feed(duo->tls, exact, part, &duo->plain, &duo->records);
        free(exact);
    }
}

/* What the client has sent goes to the server, in pieces. */
static inline void duo_upward(struct duo *duo, size_t piece)
{
    char *octets;
    long length = BIO_get_mem_data(duo->outward, &octets);
    char *sent = malloc((size_t)length + 1);
    assert_non_null(sent);
    memcpy(sent, octets, (size_t)length);
    (void)BIO_reset(duo->outward);
    duo_feed(duo, sent, (size_t)length, piece);
    free(sent);
}

/* What the server has sent goes to the client. */
static inline void duo_downward(struct duo *duo)
{
    if (duo->records.length > 0)
        assert_int_equal(BIO_write(duo->inward, duo->records.data, (int)duo->records.length),
                         (int)duo->records.length);
    buffer_clear(&duo->records);
}

/* As far as it goes; true when both ends say that it is done. */
static inline bool duo_shake(struct duo *duo, size_t piece)
{
    bool done = false;

    for (int turn = 0; turn < 5 && duo->status == TLS_OPEN; turn++) {
        ERR_clear_error();
        done = SSL_do_handshake(duo->client) == 1;
        duo_upward(duo, piece);
        duo_downward(duo);
    }
    return done && duo->status == TLS_OPEN && tls_established(duo->tls);
}

/* The client reads what has come; returns how much. */
static inline size_t duo_client_read(struct duo *duo, char *octets, size_t size)
{
    size_t length = 0, more;

    while (length < size && SSL_read_ex(duo->client, octets + length, size - length, &more) == 1)
        length += more;
    return length;
}

/* A duo with the handshake done. */
static inline void duo_establish(struct duo *duo, const struct tls_context *with, int version)
{
    SSL_CTX *client = peer_client_context(version);

    duo_init(duo, with, client);
    SSL_CTX_free(client);
    assert_true(duo_shake(duo, TLS_FEED_MAX));
    assert_int_equal(duo->records.length, 0);
    assert_int_equal(duo->plain.length, 0);
}

static inline void duo_client_says(struct duo *duo, const char *text)
{
    assert_int_equal(SSL_write(duo->client, text, (int)strlen(text)), (int)strlen(text));
}

static inline void duo_server_heard(struct duo *duo, const char *text)
{
    assert_int_equal(duo->plain.length, strlen(text));
    assert_memory_equal(duo->plain.data, text, strlen(text));
    buffer_clear(&duo->plain);
}

/* It lives: a word each way. */
static inline void duo_still_talks(struct duo *duo)
{
    char got[100];

    duo_client_says(duo, "NOOP\r\n");
    duo_upward(duo, TLS_FEED_MAX);
    assert_int_equal(duo->status, TLS_OPEN);
    duo_server_heard(duo, "NOOP\r\n");
    assert_true(tls_write(duo->tls, "250 ok\r\n", 8, &duo->records));
    duo_downward(duo);
    assert_int_equal(duo_client_read(duo, got, sizeof got), 8);
    assert_memory_equal(got, "250 ok\r\n", 8);
}

/* It is over, for that reason if one is given, and stays so. */
static inline void duo_has_failed(struct duo *duo, const char *reason)
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

#endif
