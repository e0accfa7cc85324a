/* A connection to the smarthost, from the look-up of its name to after AUTH: libcurl connects,
 * negotiates TLS, checks the certificate and authenticates; then bytes go through, both ways.
 *
 * libcurl 7.88 does EHLO, STARTTLS and AUTH under CURLOPT_CONNECT_ONLY, and curl_easy_send and
 * curl_easy_recv take over from there. Each channel has a multi handle of its own, driven by the
 * loop through uv_poll and a timer: in one that is shared, the making of a connection may close
 * another that libcurl takes to be idle.
 *
 * Loop thread only. */
#ifndef RELAY_CHANNEL_H
#define RELAY_CHANNEL_H

#include "relay/extensions.h"
#include "relay/trouble.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

enum channel_tls { CHANNEL_STARTTLS, CHANNEL_IMPLICIT, CHANNEL_NO_TLS };

/* Strings are the caller's, as long as any channel lives. */
struct channel_options {
    const char *host; /* a name, an IPv4 address, or an IPv6 address without brackets */
    unsigned port;
    enum channel_tls tls;
    const char *ca;       /* PEM file, or NULL: the system's */
    const char *hostname; /* ours, in EHLO */
    const char
        *user; /* NULL: no AUTH. Never AUTH in the clear: with CHANNEL_NO_TLS it is not sent */
    const char *password;      /* PLAIN or LOGIN; or */
    const char *password_file; /* read for each connection: its first line; or */
    const char *token_file;    /* XOAUTH2, read for each connection: its first line */
    long connect_seconds;      /* from the beginning to the end of AUTH, at most */
};

struct channel_callbacks {
    /* Connected, encrypted and authenticated as it was asked for. */
    void (*opened_cb)(void *owner, const struct extensions *extensions);
    /* Bytes from the server. */
    void (*received_cb)(void *owner, const char *bytes, size_t length);
    /* All that was written is with the kernel, after channel_write could not place it at once. */
    void (*drained_cb)(void *owner);
    /* It could not be opened, or was closed by the server or by an error. `words`: what happened,
     * in the server's words or libcurl's, printable; valid during the call. Nothing more follows;
     * the owner closes the channel. */
    void (*lost_cb)(void *owner, enum trouble trouble, const char *words);
};

struct channel;

/* Once before all and once after, of the process. 0, or a sysexits code after saying why. */
int channel_global_start(void);
void channel_global_stop(void);

/* Begins to connect; callbacks come on later turns of the loop. NULL when memory is out. The
 * options and callbacks stay the caller's. */
struct channel *channel_open(uv_loop_t *loop, const struct channel_options *options,
                             const struct channel_callbacks *callbacks, void *owner);

/* Sends bytes, in order, keeping what the kernel does not take now. Returns bytes that are kept:
 * above 0, drained_cb follows. */
size_t channel_write(struct channel *channel, const char *bytes, size_t length);

/* Closes the connection whatever it is doing; no callback follows. Frees itself when its handles
 * are closed. May be called from a callback. */
void channel_close(struct channel *channel);

#endif
