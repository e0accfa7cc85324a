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

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PEER_PATH_SIZE = 100 };

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

#endif
