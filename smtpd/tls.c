/* TLS: see the header.
 *
 * OpenSSL reads and writes through a BIO of our own, which during a call knows the octets that came
 * and the buffer for what is to go. It reads no further than the record it works on, so between
 * calls nothing is left that it has not taken. */
#include "smtpd/tls.h"

#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    /* Handshake messages and alerts, both ways, in one call. A handshake takes 14 at most; after
     * it a KeyUpdate, which an honest client sends once in millions of records, costs a dishonest
     * one 27 octets and us two key derivations. */
    MESSAGES_MAX = 32,
    /* The largest piece of memory that OpenSSL may ask for in a call. A record takes 17 KiB and a
     * handshake message of 16 KiB takes 21 KiB; but for a ClientHello that only says it will be
     * long, OpenSSL makes 171 KiB ready at once. */
    PIECE_MAX = 24 * 1024
};

struct tls_context {
    SSL_CTX *ssl;
};

struct tls {
    SSL *ssl;
    const char *reason; /* NULL until it fails */
    bool established;

    /* During a call: */
    const char *octets; /* that OpenSSL has not yet taken */
    size_t length;
    struct buffer *records;
    unsigned messages;
};

/* Memory. */

static bool in_call;

static bool too_large(size_t size)
{
    return in_call && size > PIECE_MAX;
}

static void *allocate(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return too_large(size) ? NULL : malloc(size);
}

static void *reallocate(void *memory, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return too_large(size) ? NULL : realloc(memory, size);
}

static void release(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    free(memory);
}

/* The BIO. */

static int read_cb(BIO *bio, char *octets, int size)
{
    struct tls *tls = BIO_get_data(bio);
    size_t length = (size_t)size < tls->length ? (size_t)size : tls->length;

    BIO_clear_retry_flags(bio);
    if (tls->messages > MESSAGES_MAX) {
        tls->reason = "too many handshake messages";
        return -1;
    }
    if (length == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(octets, tls->octets, length);
    tls->octets += length;
    tls->length -= length;
    return (int)length;
}

static int write_cb(BIO *bio, const char *octets, int length)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!buffer_append(tls->records, octets, (size_t)length)) {
        tls->reason = "too much to send";
        return -1;
    }
    return length;
}

static long control_cb(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH; /* all else is not ours to know */
}

static BIO_METHOD *method; /* of all connections; never freed, for they may outlive any context */

static bool make_method(void)
{
    if (method != NULL)
        return true;
    /* Before any other call: refused when OpenSSL has allocated something already. Then it has no
     * bound, and works all the same. */
    CRYPTO_set_mem_functions(allocate, reallocate, release);
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "shared buffers");
    return method != NULL && BIO_meth_set_read(method, read_cb) &&
           BIO_meth_set_write(method, write_cb) && BIO_meth_set_ctrl(method, control_cb);
}

/* Contexts. */

/* Never asks on a terminal. */
static int passphrase_cb(char *passphrase, int size, int writing, void *owner)
{
    bool *asked = owner;

    (void)passphrase, (void)size, (void)writing;
    *asked = true;
    return -1;
}

/* The first error is the cause; those behind it say what could not be done because of it. */
static const char *first_error(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = NULL;

    if (ERR_SYSTEM_ERROR(code))
        text = log_errno_text(ERR_GET_REASON(code));
    else if ((ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE) ||
             (ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER &&
              ERR_GET_REASON(code) == ERR_R_UNSUPPORTED))
        text = "nothing of the kind is in it";
    else if (code != 0)
        text = ERR_reason_error_string(code);
    return text != NULL ? text : "unknown error";
}

/* What is no plain file may never end, or never begin: a pipe would hold up a reread for ever. */
static bool is_plain_file(const char *what, const char *path, char reason[static TLS_REASON_SIZE])
{
    struct stat status;

    if (stat(path, &status) != 0)
        snprintf(reason, TLS_REASON_SIZE, "%s %s: %s", what, path, log_errno_text(errno));
    else if (!S_ISREG(status.st_mode))
        snprintf(reason, TLS_REASON_SIZE, "%s %s: it is not a plain file", what, path);
    else
        return true;
    return false;
}

static bool load_pair(SSL_CTX *ssl, const char *certificate, const char *key,
                      char reason[static TLS_REASON_SIZE])
{
    bool asked = false, used;

    if (!is_plain_file("certificate", certificate, reason) || !is_plain_file("key", key, reason))
        return false;
    SSL_CTX_set_default_passwd_cb(ssl, passphrase_cb);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &asked);
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1) {
        snprintf(reason, TLS_REASON_SIZE, "certificate %s: %s", certificate, first_error());
        return false;
    }
    used = SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    if (asked)
        snprintf(reason, TLS_REASON_SIZE, "key %s: it is encrypted", key);
    else if (used ? SSL_CTX_check_private_key(ssl) != 1
                  : ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH)
        snprintf(reason, TLS_REASON_SIZE, "key %s: it does not belong to certificate %s", key,
                 certificate);
    else if (!used)
        snprintf(reason, TLS_REASON_SIZE, "key %s: %s", key, first_error());
    else
        return true;
    return false;
}

/* Clients seldom look (RFC 7435), so a certificate of another time is better than none. */
static void warn_of_time(const SSL_CTX *ssl, const char *certificate,
                         char reason[static TLS_REASON_SIZE])
{
    const X509 *own = SSL_CTX_get0_certificate(ssl);

    if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0)
        snprintf(reason, TLS_REASON_SIZE, "certificate %s: it has expired", certificate);
    else if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
        snprintf(reason, TLS_REASON_SIZE, "certificate %s: it is not valid yet", certificate);
}

static void message_cb(int writing, int version, int type, const void *octets, size_t length,
                       SSL *ssl, void *owner)
{
    struct tls *tls = owner;

    (void)writing, (void)version, (void)octets, (void)length, (void)ssl;
    if (type == SSL3_RT_HANDSHAKE || type == SSL3_RT_ALERT)
        tls->messages++;
}

/* Tickets are sealed with a key of the context's own, so that a client that comes back spares us
 * the signature and we remember nothing. The order of ciphers is the client's: with TLS 1.2 and
 * later none of them is bad, and it knows whether it has AES in hardware. */
static bool set_up(SSL_CTX *ssl)
{
    static const unsigned char application[] = "smtpd";

    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_msg_callback(ssl, message_cb);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_num_tickets(ssl, 1) == 1 && SSL_CTX_set_max_early_data(ssl, 0) == 1 &&
           SSL_CTX_set_session_id_context(ssl, application, sizeof application - 1) == 1 &&
           SSL_CTX_set1_groups_list(ssl, "X25519:P-256:P-384") == 1;
}

struct tls_context *tls_context_load(const char *certificate, const char *key,
                                     char reason[static TLS_REASON_SIZE])
{
    struct tls_context *context = NULL;
    SSL_CTX *ssl = NULL;

    reason[0] = '\0';
    if (!make_method() || (ssl = SSL_CTX_new(TLS_server_method())) == NULL || !set_up(ssl)) {
        snprintf(reason, TLS_REASON_SIZE, "TLS cannot be set up: %s", first_error());
        goto out;
    }
    if (!load_pair(ssl, certificate, key, reason))
        goto out;
    context = malloc(sizeof *context);
    if (context == NULL) {
        snprintf(reason, TLS_REASON_SIZE, "no memory");
        goto out;
    }
    warn_of_time(ssl, certificate, reason);
    context->ssl = ssl;
    ssl = NULL;
out:
    SSL_CTX_free(ssl);
    ERR_clear_error();
    return context;
}

int64_t tls_context_expiry(const struct tls_context *context)
{
    struct tm expiry;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(context->ssl)), &expiry) != 1)
        return 0;
    return timegm(&expiry);
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl); /* each connection holds it, too */
    free(context);
}

/* Connections. */

struct tls *tls_open(const struct tls_context *context)
{
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(method);

    if (tls == NULL || bio == NULL || (tls->ssl = SSL_new(context->ssl)) == NULL) {
        BIO_free(bio);
        free(tls);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* which owns it now */
    SSL_set_msg_callback_arg(tls->ssl, tls);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    free(tls);
}

static void call_begin(struct tls *tls, const char *octets, size_t length, struct buffer *records)
{
    ERR_clear_error(); /* SSL_get_error looks at whatever lies there */
    tls->octets = octets;
    tls->length = length;
    tls->records = records;
    tls->messages = 0;
    in_call = true;
}

static void call_end(struct tls *tls)
{
    in_call = false;
    tls->octets = NULL;
    tls->length = 0;
    tls->records = NULL;
    ERR_clear_error();
}

static enum tls_status fail(struct tls *tls)
{
    if (tls->reason == NULL)
        tls->reason = ERR_peek_error() != 0 ? first_error() : "protocol violated";
    return TLS_FAILED;
}

/* Reads the records that have come in whole. */
static enum tls_status read_records(struct tls *tls, struct buffer *plain)
{
    size_t length;

    for (;;) {
        if (!buffer_reserve(plain, TLS_RECORD_MAX)) {
            tls->reason = "no memory";
            return TLS_FAILED;
        }
        if (SSL_read_ex(tls->ssl, plain->data + plain->length, TLS_RECORD_MAX, &length) == 1) {
            plain->length += length;
            continue;
        }
        switch (SSL_get_error(tls->ssl, 0)) {
        case SSL_ERROR_WANT_READ:
            return tls->reason == NULL ? TLS_OPEN : TLS_FAILED;
        case SSL_ERROR_ZERO_RETURN:
            return TLS_ENDED;
        default:
            return fail(tls);
        }
    }
}

enum tls_status tls_feed(struct tls *tls, const char *octets, size_t length, struct buffer *plain,
                         struct buffer *records)
{
    enum tls_status status;

    assert(length <= TLS_FEED_MAX);
    if (tls->reason != NULL)
        return TLS_FAILED;
    call_begin(tls, octets, length, records);
    status = read_records(tls, plain);
    if (SSL_is_init_finished(tls->ssl))
        tls->established = true; /* a KeyUpdate that has come in part does not undo it */
    call_end(tls);
    return status;
}

bool tls_established(const struct tls *tls)
{
    return tls->reason == NULL && tls->established;
}

bool tls_write(struct tls *tls, const char *octets, size_t length, struct buffer *records)
{
    size_t written;
    bool done;

    if (!tls_established(tls))
        return false;
    if (length == 0)
        return true;
    call_begin(tls, NULL, 0, records);
    done = SSL_write_ex(tls->ssl, octets, length, &written) == 1;
    if (!done)
        fail(tls);
    call_end(tls);
    return done;
}

void tls_end(struct tls *tls, struct buffer *records)
{
    if (!tls_established(tls) || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        return;
    call_begin(tls, NULL, 0, records);
    if (SSL_shutdown(tls->ssl) < 0)
        fail(tls);
    call_end(tls);
}

const char *tls_reason(const struct tls *tls)
{
    return tls->reason != NULL ? tls->reason : "";
}

const char *tls_version(const struct tls *tls)
{
    return SSL_get_version(tls->ssl);
}

const char *tls_cipher(const struct tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}
