/* The other end of relay/channel.c, for its unit tests: servers of SMTP that keep to a script, in threads
 * of their own, with certificates made on the spot.
 *
 * A script is a row of steps, each a letter and what it is about:
 *     S  say a line             H  hear a line that begins so    T  begin TLS
 *     R  say bytes as they are  W  hear until the client leaves  X  leave, without a word of TLS
 *     D  octet by octet from now on, both ways                  Z  leave by a reset
 *     B  hear any octets        !  call `rest` of the peer
 * At its end the connection is closed. A step that could not be done is a complaint, which fails the
 * test; after a T that fails the rest of the script is left out, for that is the client's right. */
#ifndef TESTS_UNIT_SMTP_PEER_H
#define TESTS_UNIT_SMTP_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buffer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEER_TALKS = 64, PEER_HEARD = 64 * 1024, PEER_DAY = 24 * 60 * 60, PEER_PATIENCE = 20 };

/* Certificates. */

struct peer_files {
    char directory[40];
    char ca[80]; /* what the client trusts: `good`, `other` and `old` */
};

static inline SSL_CTX *peer_context(const struct peer_files *files, const char *name)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char path[100];

    assert_non_null(context);
    snprintf(path, sizeof path, "%s/%s", files->directory, name);
    assert_int_equal(SSL_CTX_use_certificate_file(context, path, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM), 1);
    return context;
}

static inline void peer_extend(X509 *certificate, int what, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, what, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* A certificate that signs itself, with its key behind it. */
static inline void peer_make_certificate(const struct peer_files *files, const char *name,
                                         const char *names, bool trusted, long from, long to)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    char path[100];
    FILE *file;

    assert_non_null(key);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), from));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), to));
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_set_pubkey(certificate, key);
    peer_extend(certificate, NID_subject_alt_name, names);
    peer_extend(certificate, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    snprintf(path, sizeof path, "%s/%s", files->directory, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    if (trusted) {
        file = fopen(files->ca, "a");
        assert_non_null(file);
        assert_int_equal(PEM_write_X509(file, certificate), 1);
        fclose(file);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static inline void peer_files_make(struct peer_files *files)
{
    strcpy(files->directory, "/tmp/mayfly-peer-XXXXXX");
    assert_non_null(mkdtemp(files->directory));
    snprintf(files->ca, sizeof files->ca, "%s/ca", files->directory);
    peer_make_certificate(files, "good", "IP:127.0.0.1,DNS:localhost", true, -PEER_DAY, PEER_DAY);
    peer_make_certificate(files, "other", "DNS:other.example", true, -PEER_DAY, PEER_DAY);
    peer_make_certificate(files, "old", "IP:127.0.0.1", true, -2 * PEER_DAY, -PEER_DAY);
    peer_make_certificate(files, "stranger", "IP:127.0.0.1", false, -PEER_DAY, PEER_DAY);
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

/* Servers. */

struct talk;

struct peer {
    const char *const *script;
    SSL_CTX *tls;                    /* for T */
    void (*rest)(struct talk *talk); /* for ! */
    void *data;                      /* of `rest` */
    const char *words;               /* likewise */
    size_t limit;                    /* octets after which a connection is cut off; 0: none */
    int receive_size;                /* of the socket's buffer; 0: the system's choice */

    int listener;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock;        /* of what follows */
    struct buffer clear, secret; /* what was heard in the clear, and under TLS */
    char complaint[200];
};

/* One connection, in its own thread. */
struct talk {
    struct peer *peer;
    pthread_t thread;
    int socket;
    SSL *tls;
    BIO *inward, *outward; /* of `tls` */
    bool octets;           /* one at a time */
    bool left;             /* the client has */
    size_t said;           /* octets on the wire */
};

static inline void talk_complain(struct talk *talk, const char *step, const char *what)
{
    pthread_mutex_lock(&talk->peer->lock);
    if (talk->peer->complaint[0] == '\0')
        snprintf(talk->peer->complaint, sizeof talk->peer->complaint, "%.100s: %.80s", step, what);
    pthread_mutex_unlock(&talk->peer->lock);
}

/* Of each connection's own, or of what one before it left to those that come. */
static inline size_t talk_limit(struct talk *talk)
{
    size_t limit;

    pthread_mutex_lock(&talk->peer->lock);
    limit = talk->peer->limit;
    pthread_mutex_unlock(&talk->peer->lock);
    return limit;
}

static inline bool talk_send_raw(struct talk *talk, const char *bytes, size_t length)
{
    const size_t limit = talk_limit(talk);

    while (length > 0) {
        size_t part = talk->octets ? 1 : length;
        ssize_t count;
        if (limit > 0 && part > limit - talk->said)
            part = limit - talk->said;
        if (part == 0)
            return false;
        count = send(talk->socket, bytes, part, MSG_NOSIGNAL);
        if (count <= 0)
            return false;
        bytes += count;
        length -= (size_t)count;
        talk->said += (size_t)count;
    }
    return true;
}

static inline bool talk_flush(struct talk *talk)
{
    char *bytes;
    long length = BIO_get_mem_data(talk->outward, &bytes);
    bool sent = talk_send_raw(talk, bytes, (size_t)length);

    (void)BIO_reset(talk->outward);
    return sent;
}

static inline bool talk_send(struct talk *talk, const char *bytes, size_t length)
{
    if (talk->tls == NULL)
        return talk_send_raw(talk, bytes, length);
    return SSL_write(talk->tls, bytes, (int)length) == (int)length && talk_flush(talk);
}

/* What is on the wire, up to `size`. 0: the client has left. */
static inline size_t talk_receive_raw(struct talk *talk, char *bytes, size_t size)
{
    ssize_t count = recv(talk->socket, bytes, talk->octets ? 1 : size, 0);

    /* Who leaves what was sent to it unread leaves by a reset. */
    talk->left = talk->left || count == 0 || (count < 0 && errno == ECONNRESET);
    return count > 0 ? (size_t)count : 0;
}

static inline size_t talk_receive_tls(struct talk *talk, char *bytes, size_t size)
{
    char records[16 * 1024];

    for (;;) {
        int count = SSL_read(talk->tls, bytes, (int)size);
        size_t length;
        talk_flush(talk);
        if (count > 0)
            return (size_t)count;
        if (SSL_get_error(talk->tls, count) != SSL_ERROR_WANT_READ) {
            talk->left = true;
            return 0;
        }
        length = talk_receive_raw(talk, records, sizeof records);
        if (length == 0)
            return 0;
        BIO_write(talk->inward, records, (int)length);
    }
}

/* 0: the client has left, or says nothing. */
static inline size_t talk_receive(struct talk *talk, char *bytes, size_t size)
{
    size_t length = talk->tls != NULL ? talk_receive_tls(talk, bytes, size)
                                      : talk_receive_raw(talk, bytes, size);

    pthread_mutex_lock(&talk->peer->lock);
    buffer_append(talk->tls != NULL ? &talk->peer->secret : &talk->peer->clear, bytes,
                  length); /* as much as fits */
    pthread_mutex_unlock(&talk->peer->lock);
    return length;
}

static inline bool talk_hear(struct talk *talk, const char *want)
{
    char line[16 * 1024] = "";
    size_t length = 0;

    while (length < sizeof line - 1 && (length == 0 || line[length - 1] != '\n')) {
        if (talk_receive(talk, line + length, 1) == 0)
            return false;
        length++;
    }
    line[length] = '\0';
    if (strncmp(line, want, strlen(want)) != 0) {
        talk_complain(talk, want, line);
        return false;
    }
    return true;
}

/* Until the client leaves, whatever it says. */
static inline void talk_wait(struct talk *talk)
{
    char bytes[4096];

    while (talk_receive(talk, bytes, sizeof bytes) > 0)
        continue;
    if (!talk->left && talk_limit(talk) == 0)
        talk_complain(talk, "W", "the client stays");
}

static inline bool talk_begin_tls(struct talk *talk)
{
    char records[16 * 1024];

    talk->tls = SSL_new(talk->peer->tls);
    talk->inward = BIO_new(BIO_s_mem());
    talk->outward = BIO_new(BIO_s_mem());
    SSL_set_bio(talk->tls, talk->inward, talk->outward);
    SSL_set_accept_state(talk->tls);
    for (;;) {
        int result = SSL_do_handshake(talk->tls);
        int error = SSL_get_error(talk->tls, result);
        size_t length;
        if (!talk_flush(talk))
            return false;
        if (result == 1)
            return true;
        if (error != SSL_ERROR_WANT_READ)
            return false;
        length = talk_receive_raw(talk, records, sizeof records);
        if (length == 0)
            return false;
        BIO_write(talk->inward, records, (int)length);
    }
}

static inline void talk_reset(struct talk *talk)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(talk->socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* False: this was the last step. */
static inline bool talk_step(struct talk *talk, const char *step)
{
    const char *about = step + 1 + (step[1] == ' ');
    char line[4096];

    switch (step[0]) {
    case 'S':
        snprintf(line, sizeof line, "%s\r\n", about);
        return talk_send(talk, line, strlen(line));
    case 'R':
        return talk_send(talk, about, strlen(about));
    case 'H':
        if (!talk_hear(talk, about) && talk_limit(talk) == 0)
            talk_complain(talk, step, "nothing");
        return !talk->left;
    case 'T':
        return talk_begin_tls(talk);
    case 'W':
        talk_wait(talk);
        return false;
    case 'B':
        return talk_receive(talk, line, sizeof line) > 0;
    case 'D':
        talk->octets = true;
        return true;
    case 'Z':
        talk_reset(talk);
        return false;
    case '!':
        talk->peer->rest(talk);
        return true;
    default:
        return false;
    }
}

static inline void *talk_thread(void *data)
{
    struct talk *talk = data;

    for (const char *const *step = talk->peer->script; *step != NULL; step++)
        if (!talk_step(talk, *step))
            break;
    close(talk->socket);
    SSL_free(talk->tls);
    ERR_clear_error();
    return NULL;
}

/* Takes connections until the listener is shut down. */
static inline void *peer_thread(void *data)
{
    struct peer *peer = data;
    static const struct timeval patience = {.tv_sec = PEER_PATIENCE};
    struct talk *talks[PEER_TALKS];
    int count = 0, socket, on = 1;

    while (count < PEER_TALKS && (socket = accept(peer->listener, NULL, NULL)) >= 0) {
        struct talk *talk = calloc(1, sizeof *talk);
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        talk->peer = peer;
        talk->socket = socket;
        pthread_create(&talk->thread, NULL, talk_thread, talk);
        talks[count++] = talk;
    }
    while (count > 0) {
        pthread_join(talks[--count]->thread, NULL);
        free(talks[count]);
    }
    return NULL;
}

/* `script`, `tls` and the like are set; the rest is made. */
static inline void peer_start(struct peer *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;

    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(peer->listener >= 0);
    if (peer->receive_size > 0)
        setsockopt(peer->listener, SOL_SOCKET, SO_RCVBUF, &peer->receive_size,
                   sizeof peer->receive_size);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(peer->listener, PEER_TALKS), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&address, &size), 0);
    peer->port = ntohs(address.sin_port);
    pthread_mutex_init(&peer->lock, NULL);
    buffer_init(&peer->clear, PEER_HEARD);
    buffer_init(&peer->secret, PEER_HEARD);
    peer->complaint[0] = '\0';
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_thread, peer), 0);
}

/* Waits for all connections to end, and looks for complaints. What was heard stays until peer_free. */
static inline void peer_end(struct peer *peer)
{
    shutdown(peer->listener, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->listener);
    buffer_append(&peer->clear, "", 1);
    buffer_append(&peer->secret, "", 1);
    assert_string_equal(peer->complaint, "");
}

static inline void peer_free(struct peer *peer)
{
    pthread_mutex_destroy(&peer->lock);
    buffer_free(&peer->clear);
    buffer_free(&peer->secret);
}

#endif
