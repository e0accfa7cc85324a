/* The load generator: what was asked for, and how far it is. One thread, which shares the machine's
 * cores with the server that is measured: nothing is allocated for a message, and each of its
 * commands is one call that sends and one that receives. */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct load_session;

enum load_goal {
    LOAD_MESSAGES,
    LOAD_IDLE,       /* connections that are opened and held */
    LOAD_HANDSHAKES, /* TLS handshakes, and nothing behind them */
};

struct load {
    enum load_goal goal;
    bool keep;          /* a connection takes message after message */
    bool pipeline;      /* MAIL, RCPT and DATA are sent together */
    bool starttls;      /* in each connection */
    bool tls_at_once;   /* instead of SMTP */
    size_t total;       /* messages, connections or handshakes: the things that are counted */
    size_t sessions;    /* at once */
    size_t users;       /* recipients */
    const char *domain; /* of theirs */
    double rate;        /* messages begin at this one whatever the server does; 0: when it can */
    struct sockaddr_storage address;
    socklen_t address_length;
    SSL_CTX *tls;
    char *data; /* a message with the dot behind it */
    size_t data_length;

    int poll;
    bool started;      /* the clock runs, and messages begin */
    double start, end; /* end: of what was counted last */
    size_t begun;      /* of `total`; each is counted as one of the next three in the end */
    size_t ok, rejected, errors;
    size_t connections; /* made so far */
    size_t open;        /* now */
    size_t opening;     /* now, and not yet so far that a message may follow */
    size_t settled;     /* sessions whose first connection came so far, or failed */
    size_t lost;        /* idle connections that the server ended */
    size_t recipients;  /* so far, to name them in turn */
    size_t complaints;
    double *dot_seconds, *message_seconds;       /* of the messages that are ok */
    struct load_session *free_first, *free_last; /* sessions that can begin something */
};

/* Whether another of `total` may begin now, which is then counted as begun; `began` is from when
 * its time counts: now, or when it was due. */
bool load_take(struct load *load, double *began);

#endif
