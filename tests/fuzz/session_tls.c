/* The client's side of TLS: see the header. */
#include "session_tls.h"

#include "fuzz.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

struct tls_client {
    SSL *ssl;
    BIO *in, *out; /* of `ssl` */
};

static void write_pem(const char *certificate, X509 *x509, const char *key, EVP_PKEY *pair)
{
    FILE *file = fopen(certificate, "w");

    LAW(file != NULL && PEM_write_X509(file, x509) == 1 && fclose(file) == 0);
    file = fopen(key, "w");
    LAW(file != NULL && PEM_write_PrivateKey(file, pair, NULL, NULL, 0, NULL, NULL) == 1);
    LAW(fclose(file) == 0);
}

void tls_client_prepare(const char *certificate, const char *key)
{
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    X509_NAME *name;

    LAW(pair != NULL && x509 != NULL);
    name = X509_get_subject_name(x509);
    LAW(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"mx.example",
                                   -1, -1, 0) == 1);
    LAW(X509_set_version(x509, X509_VERSION_3) == 1 && X509_set_issuer_name(x509, name) == 1);
    LAW(ASN1_INTEGER_set(X509_get_serialNumber(x509), 1) == 1);
    LAW(X509_gmtime_adj(X509_getm_notBefore(x509), -86400) != NULL);
    LAW(X509_gmtime_adj(X509_getm_notAfter(x509), 365L * 86400) != NULL);
    LAW(X509_set_pubkey(x509, pair) == 1 && X509_sign(x509, pair, EVP_sha256()) > 0);
    write_pem(certificate, x509, key, pair);
    X509_free(x509);
    EVP_PKEY_free(pair);
}

struct tls_client *tls_client_open(bool old)
{
    static SSL_CTX *context;
    struct tls_client *tls = malloc(sizeof *tls);

    if (context == NULL)
        context = SSL_CTX_new(TLS_client_method());
    LAW(context != NULL && tls != NULL);
    *tls = (struct tls_client){SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    LAW(tls->ssl != NULL && tls->in != NULL && tls->out != NULL);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_verify(tls->ssl, SSL_VERIFY_NONE, NULL);
    SSL_set_connect_state(tls->ssl);
    LAW(!old || SSL_set_max_proto_version(tls->ssl, TLS1_2_VERSION) == 1);
    SSL_do_handshake(tls->ssl);
    return tls;
}

void tls_client_free(struct tls_client *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    free(tls);
}

void tls_client_hear(struct tls_client *tls, const char *octets, size_t length,
                     struct buffer *plain)
{
    char bytes[4096];
    int n;

    LAW(BIO_write(tls->in, octets, (int)length) == (int)length);
    while ((n = SSL_read(tls->ssl, bytes, sizeof bytes)) > 0)
        LAW(buffer_append(plain, bytes, (size_t)n));
    ERR_clear_error();
}

size_t tls_client_say(struct tls_client *tls, const char *octets, size_t length)
{
    int n = SSL_is_init_finished(tls->ssl) ? SSL_write(tls->ssl, octets, (int)length) : 0;

    ERR_clear_error();
    return n > 0 ? (size_t)n : 0;
}

void tls_client_garble(struct tls_client *tls, const char *octets, size_t length)
{
    LAW(BIO_write(tls->out, octets, (int)length) == (int)length);
}

void tls_client_end(struct tls_client *tls)
{
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

void tls_client_flush(struct tls_client *tls, struct buffer *records)
{
    char *bytes;
    long length = BIO_get_mem_data(tls->out, &bytes);

    if (length > 0)
        LAW(buffer_append(records, bytes, (size_t)length));
    (void)BIO_reset(tls->out);
}
