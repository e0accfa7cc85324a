/* A client's connection: the socket, the session that speaks on it, and the message it is sending.
 * Here it begins and ends; its bytes are carried by smtpd/transport.c, its deadlines are kept by
 * smtpd/waiting.c, and what it all means is the session's business. Loop thread only. */
#ifndef SMTPD_CONNECTION_H
#define SMTPD_CONNECTION_H

#include "smtpd/address.h"
#include "smtpd/output.h"
#include "smtpd/pace.h"
#include "smtpd/server.h"
#include "smtpd/session.h"
#include "smtpd/transport.h"
#include "smtpd/waiting.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct message;
struct proxy;
struct tls;

struct connection {
    uv_tcp_t tcp;
    struct server *server;
    struct session session;
    struct output output;
    struct message *message;             /* NULL unless content is coming or being committed */
    struct transport_input *input;       /* NULL unless input could not be used at once */
    struct proxy *proxy;                 /* NULL unless its header is coming */
    struct tls *tls;                     /* NULL in the clear; from STARTTLS on */
    struct connection *next, **previous; /* of all that are open */
    struct wheel_entry deadline;
    struct pace pace;
    struct address client;
    uint32_t heard;  /* the tick in which the client last sent anything */
    uint32_t since;  /* the tick in which the present waiting began */
    uint8_t waiting; /* enum waiting */
    bool reading;    /* libuv is */
    bool answered;   /* a reply was given since the deadline was last set */
    bool courteous;  /* the client may have more to say: it is waited for at the end */
    bool counted;    /* among the client's connections */
    bool tls_ended;  /* the client has ended TLS: what it sent before may still wait */
    bool hung_up;    /* the client will send nothing more */
    bool closing;
};

/* Begins the session of a client that was accepted. The descriptor is the connection's from then on,
 * and the connection frees itself when it is over. False when there is no memory for it: the client
 * is turned away with a 421. */
bool connection_accept(struct server *server, int descriptor, const struct sockaddr *peer);

/* To be called after an event was given to the session: sends replies, uses input that waits, and
 * sees what to wait for. The connection may be closed afterwards, but is not freed before the
 * loop's next turn. */
void connection_proceed(struct connection *connection);

/* The header of a proxy has come whole: the client is the one that it names. `more`: the client has
 * spoken, too. */
void connection_take_header(struct connection *connection, bool more);

/* There is no such header, or a bad one: the connection is closed without a word. */
void connection_refuse_header(struct connection *connection, const char *reason);

/* The time to greet has come, or (`early`) the client has not waited for it. */
void connection_greet(struct connection *connection, bool early);

/* Begins the end: what was not sent yet is not sent. Idempotent. */
void connection_close(struct connection *connection);

/* Gives an event to every session: SHUTDOWN, or SHUTDOWN_DEADLINE. After that a connection has
 * WAITING_FAREWELL_MS to end, and none at all where it only waits for the client to take a reply
 * or to hang up; but one whose message is with the disk stays until it is answered. */
void connection_end_all(struct server *server, enum session_event event);

#endif
