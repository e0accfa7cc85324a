/* What all connections of smtpd share, and its life: start, reload, stop. One loop, one thread;
 * only messages go to the thread pool. */
#ifndef SMTPD_SERVER_H
#define SMTPD_SERVER_H

#include "common/buffer.h"
#include "queue/spool.h"
#include "smtpd/clients.h"
#include "smtpd/committer.h"
#include "smtpd/config.h"
#include "smtpd/listener.h"
#include "smtpd/networks.h"
#include "smtpd/policy.h"
#include "smtpd/pressure.h"
#include "smtpd/rules.h"
#include "smtpd/wheel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum { SERVER_READ_SIZE = 64 * 1024, SERVER_REPLIES_MAX = 32 * 1024, SERVER_TICK_MS = 250 };

struct connection;
struct tls_context;

struct server {
    uv_loop_t *loop;
    struct config *config;
    struct rules rules;
    struct policy policy;
    struct tls_context *tls; /* NULL: no STARTTLS */
    struct networks proxies; /* peers that speak PROXY protocol */
    struct pressure pressure;
    uint64_t relieved; /* when descriptors will have been there for a while, in uv_now */
    struct spool spool;
    struct committer committer;
    struct listener listener;

    struct connection *connections; /* all that are open */
    size_t connection_count;
    size_t connection_limit;
    struct clients clients;

    struct wheel wheel;  /* deadlines of connections */
    uv_timer_t ticker;   /* turns the wheel while there are connections */
    uv_timer_t deadline; /* of the stop, and of the withdrawal before it */
    unsigned withdrawal_ms;

    /* A connection reads into `input` and writes its replies to `replies` only during one callback,
     * so one of each serves all; what is left over is copied out. */
    char *input;
    struct buffer replies;
    struct buffer plain;   /* what came under TLS */
    struct buffer records; /* what goes out under it */

    bool stopping; /* sessions end, and none begins */
    bool closed;   /* every handle is closed or closing */
};

/* Starts listening: 0, or a sysexits code after saying why. */
int server_start(struct server *server, uv_loop_t *loop, struct config *config);

/* Reads the lists again. */
void server_reload(struct server *server);

/* Has new clients go to another process where one can share the port (smtpd/listener.h), and then
 * listens no more, lets every message past its end be answered and those in flight a little time;
 * then the loop has nothing more to do. */
void server_stop(struct server *server);

/* Called whenever a connection or a message has ended, and so let go of its descriptor: lets in who
 * waits for one; in a stop closes the rest once it was the last. */
void server_settle(struct server *server);

/* To be called when the number of connections has changed, and now and then: tightens the limits, or
 * lets them go. */
void server_feel_pressure(struct server *server);

/* Sets the gauges (smtpd/counters.h) that are looked up. */
void server_measure(const struct server *server);

/* The tick of the wheel in which `milliseconds` of uv_now have passed. */
uint32_t server_tick(uint64_t milliseconds);

#endif
