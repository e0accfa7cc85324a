/* A client of the server under test, on one end of a socket pair: sends what the input says, and
 * keeps all that was said by both sides for the replay. */
#ifndef TESTS_FUZZ_SESSION_CLIENT_H
#define TESTS_FUZZ_SESSION_CLIENT_H

#include "common/buffer.h"

#include "fuzz.h"
#include "session_tls.h"

#include <sys/socket.h>

struct client {
    int socket; /* -1: never connected */
    struct sockaddr_storage peer;
    struct buffer said; /* all that it says; the part before `sent` is with the kernel */
    size_t sent;
    size_t due;             /* what is to be sent by now */
    struct buffer heard;    /* all that it was answered */
    struct tls_client *tls; /* NULL in the clear */
    struct buffer records;  /* to be sent, under TLS */
    size_t said_in_clear;   /* octets of both, when TLS began */
    size_t heard_in_clear;
    bool deaf; /* reads nothing for now */
    bool half_closed;
    bool gone;  /* closed its socket: what it was answered then is not known */
    bool ended; /* the server closed */
};

/* A client with an address; connected by client_connect. */
void client_init(struct client *client, const struct sockaddr *peer, socklen_t length);
void client_free(struct client *client);

/* Connects it; the server's end of the connection is the caller's. */
int client_connect(struct client *client);

bool client_connected(const struct client *client);

/* Will say this once client_due is called, and after what was to be said before. */
void client_say(struct client *client, const char *bytes, size_t length);
void client_due(struct client *client);

/* Begins TLS if all is said and was answered with leave to do so last; `old`: TLS 1.2. */
void client_begin_tls(struct client *client, bool old);

/* Under TLS: an octet that belongs to no record, and the end of it. */
void client_garble(struct client *client, char octet);
void client_end_tls(struct client *client);

/* Whether all that is due was sent. */
bool client_sent(const struct client *client);

/* Sends what is due and can be sent, and hears what it is not deaf to. */
void client_turn(struct client *client);

/* Will send no more; or is gone. */
void client_half_close(struct client *client);
void client_go(struct client *client);

#endif
