/* Sessions of the load generator: see the header.
 *
 * A session is free when it could begin a message: with no connection, or, where connections are
 * kept, with one that waits. Free ones stand in a queue, so that a fixed rate goes over all of them
 * in turn. */
#include "tests/bench/load_session.h"

#include "tests/bench/load.h"
#include "tests/bench/load_link.h"
#include "tests/bench/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { COMMANDS_SIZE = 400, RECEIVE_SIZE = 16384, OPENING_MAX = 64, COMPLAINTS_MAX = 5 };

#define MAIL "MAIL FROM:<sender@bench.example>\r\n"
#define DATA "DATA\r\n"

enum state {
    STATE_CLOSED,
    STATE_GREETING, /* from here to QUIT: waits for this reply */
    STATE_EHLO,
    STATE_STARTTLS,
    STATE_MAIL,
    STATE_RCPT,
    STATE_DATA,
    STATE_DOT,
    STATE_QUIT,
    STATE_HANDSHAKE,
    STATE_READY, /* for MAIL, or to stay as it is */
};

static const struct {
    const char *name;
    int code; /* of the reply with which it goes on; its first digit counts */
} states[] = {
    [STATE_CLOSED] = {"closed", 0},    [STATE_GREETING] = {"greeting", 220},
    [STATE_EHLO] = {"EHLO", 250},      [STATE_STARTTLS] = {"STARTTLS", 220},
    [STATE_MAIL] = {"MAIL", 250},      [STATE_RCPT] = {"RCPT", 250},
    [STATE_DATA] = {"DATA", 354},      [STATE_DOT] = {"end of data", 250},
    [STATE_QUIT] = {"QUIT", 221},      [STATE_HANDSHAKE] = {"handshake", 0},
    [STATE_READY] = {"no command", 0},
};

struct load_session {
    struct load *load;
    enum state state;
    struct load_link link;
    bool taken;     /* one of load->total, not yet counted as ok, rejected or error */
    bool settled;   /* counted in load->settled */
    bool opening;   /* counted in load->opening */
    size_t carried; /* messages of this connection */
    double began, handed;
    struct load_session *next_free;
    char commands[COMMANDS_SIZE];
};

struct load_session *load_session_make(struct load *load)
{
    struct load_session *sessions = calloc(load->sessions, sizeof *sessions);
    for (size_t i = 0; sessions != NULL && i < load->sessions; i++) {
        sessions[i].load = load;
        sessions[i].link =
            (struct load_link){.descriptor = -1, .poll = load->poll, .owner = &sessions[i]};
        sessions[i].next_free = i + 1 < load->sessions ? &sessions[i + 1] : NULL;
    }
    if (sessions != NULL) {
        load->free_first = &sessions[0];
        load->free_last = &sessions[load->sessions - 1];
    }
    return sessions;
}

static void session_enqueue(struct load_session *session)
{
    struct load *load = session->load;
    session->next_free = NULL;
    if (load->free_first == NULL)
        load->free_first = session;
    else
        load->free_last->next_free = session;
    load->free_last = session;
}

static void session_opened(struct load_session *session)
{
    session->load->opening -= session->opening;
    session->opening = false;
    session->load->settled += !session->settled;
    session->settled = true;
}

static void session_close(struct load_session *session)
{
    session_opened(session);
    session->load->open -= session->state != STATE_CLOSED;
    load_link_close(&session->link);
    session->state = STATE_CLOSED;
}

/* Counts what the session had taken as one of `counter`. */
static void session_count(struct load_session *session, size_t *counter)
{
    session->taken = false;
    session->load->end = measure_now();
    ++*counter;
}

static void session_complain(const struct load_session *session, const char *what)
{
    if (session->load->complaints++ < COMPLAINTS_MAX)
        fprintf(stderr, "load: %s: %s\n", states[session->state].name, what);
}

/* A connection that failed, or was refused, before it had taken a message stands for one all the
 * same, so that failures come to an end. */
static void session_count_failure(struct load_session *session, size_t *counter)
{
    struct load *load = session->load;
    if (!session->taken && load->begun < load->total) {
        load->begun++;
        session->taken = true;
    }
    if (session->taken)
        session_count(session, counter);
}

/* The connection is no good any more. */
static void session_fail(struct load_session *session, const char *what)
{
    struct load *load = session->load;
    session_complain(session, what);
    bool was_ready = session->state == STATE_READY;
    session_close(session);
    if (was_ready) {
        /* It waited for a message as one of the free, and still does; or for nothing. */
        load->lost += load->goal == LOAD_IDLE;
        return;
    }
    session_count_failure(session, &load->errors);
    session_enqueue(session);
}

/* Fails for what a function of the link returned; true when there is no reason to. */
static bool session_goes_on(struct load_session *session, int error)
{
    if (error != 0)
        session_fail(session, strerror(error));
    return error == 0;
}

/* After bytes were sent. */
static bool session_sent(struct load_session *session, int error)
{
    if (!session_goes_on(session, error))
        return false;
    if (session->state == STATE_DOT && session->link.out_length == 0)
        session->handed = measure_now();
    return true;
}

static void session_say(struct load_session *session, enum state state, const char *bytes,
                        size_t length)
{
    session->state = state;
    session_sent(session, load_link_say(&session->link, bytes, length));
}

static void session_open(struct load_session *session)
{
    struct load *load = session->load;
    session->state = load->tls_at_once ? STATE_HANDSHAKE : STATE_GREETING;
    session->carried = 0;
    session->opening = true;
    load->open++;
    load->connections++;
    load->opening++;
    /* The server speaks first, but for TLS at once. */
    int error = load_link_open(&session->link, (struct sockaddr *)&load->address,
                               load->address_length, load->tls_at_once);
    if (session_goes_on(session, error) && load->tls_at_once)
        session_goes_on(session, load_link_secure(&session->link, load->tls));
}

/* The message that was taken, on a connection that is ready for it. */
static void session_begin(struct load_session *session)
{
    struct load *load = session->load;
    if (load->pipeline) {
        int length =
            snprintf(session->commands, COMMANDS_SIZE, MAIL "RCPT TO:<user%zu@%s>\r\n" DATA,
                     load->recipients++ % load->users, load->domain);
        session_say(session, STATE_MAIL, session->commands, (size_t)length);
    } else {
        session_say(session, STATE_MAIL, MAIL, strlen(MAIL));
    }
}

static void session_quit(struct load_session *session)
{
    static const char quit[] = "QUIT\r\n";
    session_say(session, STATE_QUIT, quit, strlen(quit));
}

/* Nothing is taken, and the session could begin something: at once when that may be. */
static void session_next(struct load_session *session)
{
    struct load *load = session->load;
    bool up = session->state == STATE_READY;
    if (load->free_first != NULL || up != load->keep || !load_take(load, &session->began)) {
        session_enqueue(session);
        return;
    }
    session->taken = true;
    if (up)
        session_begin(session);
    else
        session_open(session);
}

/* False when the first of the free sessions, and so each of them, has to wait. */
static bool dispatch_one(struct load *load)
{
    struct load_session *session = load->free_first;
    if (session == NULL)
        return false;
    bool up = session->state == STATE_READY;
    bool over = load->begun == load->total && !session->taken;
    bool crowd = load->goal == LOAD_IDLE || load->keep; /* that comes to stay */
    if (!over && !up && crowd && load->opening >= OPENING_MAX)
        return false;
    bool takes = !over && !session->taken && (up || !load->keep);
    if (takes && !load_take(load, &session->began))
        return false;
    session->taken |= takes;
    load->free_first = session->next_free;
    if (over && up)
        session_quit(session);
    else if (!over && up)
        session_begin(session);
    else if (!over)
        session_open(session);
    return true;
}

void load_session_unmake(struct load_session *sessions)
{
    for (size_t i = 0; i < sessions->load->sessions; i++)
        session_close(&sessions[i]);
    free(sessions);
}

void load_session_dispatch(struct load *load)
{
    while (dispatch_one(load))
        continue;
}

/* The server has said all that comes before a message. */
static void session_ready(struct load_session *session)
{
    session_opened(session);
    session->state = STATE_READY;
    if (session->load->goal == LOAD_IDLE)
        session_count(session, &session->load->ok);
    else if (session->taken)
        session_begin(session);
    else
        session_next(session);
}

static void session_ehlo(struct load_session *session)
{
    static const char ehlo[] = "EHLO bench.example\r\n";
    session_say(session, STATE_EHLO, ehlo, strlen(ehlo));
}

static void session_shake(struct load_session *session)
{
    struct load *load = session->load;
    bool done = false;
    if (!session_goes_on(session, load_link_shake(&session->link, &done)) || !done)
        return;
    if (load->goal == LOAD_HANDSHAKES) {
        session_count(session, &load->ok);
        session_close(session);
        session_next(session);
    } else {
        session_ehlo(session);
    }
}

static void session_accepted(struct load_session *session)
{
    struct load *load = session->load;
    double now = measure_now();
    load->dot_seconds[load->ok] = now - session->handed;
    load->message_seconds[load->ok] = now - session->began;
    session_count(session, &load->ok);
    session->carried++;
    if (!load->keep) {
        session_quit(session);
        return;
    }
    session->state = STATE_READY;
    session_next(session);
}

static void session_refused(struct load_session *session, int code)
{
    struct load *load = session->load;
    enum state state = session->state;
    /* A server may have enough of a connection that it has served: the message goes by another. */
    if (state == STATE_MAIL && code == 421 && session->carried > 0) {
        session_close(session);
        session_enqueue(session);
        return;
    }
    char what[] = "refused with 000";
    snprintf(what, sizeof what, "refused with %03u", (unsigned)code % 1000);
    session_complain(session, what);
    session_count_failure(session, &load->rejected);
    /* What was pipelined would have to be read, and a message that is half sent cannot be ended. */
    if (state < STATE_MAIL || load->pipeline || session->link.out_length > 0) {
        session_close(session);
        session_enqueue(session);
    } else {
        session_quit(session);
    }
}

/* A whole reply. */
static void session_reply(struct load_session *session, int code)
{
    struct load *load = session->load;
    enum state state = session->state;
    if (state == STATE_QUIT) {
        session_close(session);
        session_next(session);
    } else if (code >= 400 && code <= 599 && state >= STATE_GREETING && state <= STATE_DOT) {
        session_refused(session, code);
    } else if (code / 100 != states[state].code / 100 || session->link.out_length > 0) {
        session_fail(session, "an answer that does not belong here");
    } else if (state == STATE_GREETING) {
        session_ehlo(session);
    } else if (state == STATE_EHLO && load->starttls && session->link.tls == NULL) {
        static const char starttls[] = "STARTTLS\r\n";
        session_say(session, STATE_STARTTLS, starttls, strlen(starttls));
    } else if (state == STATE_EHLO) {
        session_ready(session);
    } else if (state == STATE_STARTTLS) {
        session->state = STATE_HANDSHAKE;
        if (session_goes_on(session, load_link_secure(&session->link, load->tls)))
            session_shake(session);
    } else if (state == STATE_MAIL && load->pipeline) {
        session->state = STATE_RCPT;
    } else if (state == STATE_MAIL) {
        int length = snprintf(session->commands, COMMANDS_SIZE, "RCPT TO:<user%zu@%s>\r\n",
                              load->recipients++ % load->users, load->domain);
        session_say(session, STATE_RCPT, session->commands, (size_t)length);
    } else if (state == STATE_RCPT && load->pipeline) {
        session->state = STATE_DATA;
    } else if (state == STATE_RCPT) {
        session_say(session, STATE_DATA, DATA, strlen(DATA));
    } else if (state == STATE_DATA) {
        session_say(session, STATE_DOT, load->data, load->data_length);
    } else {
        session_accepted(session);
    }
}

/* What the server said. False when the connection is not, or no longer, the one that said it. */
static bool session_hear(struct load_session *session, const char *bytes, size_t length)
{
    size_t connections = session->load->connections;
    const char *end = bytes + length;
    int code;
    while ((code = load_link_reply(&session->link, &bytes, end)) != 0) {
        session_reply(session, code);
        if (session->state == STATE_CLOSED || session->state == STATE_HANDSHAKE ||
            session->load->connections != connections)
            return false;
    }
    return true;
}

static void session_read(struct load_session *session, bool to_the_end)
{
    char bytes[RECEIVE_SIZE];
    bool again = true;
    while (again) {
        ssize_t n = load_link_receive(&session->link, bytes, sizeof bytes, &again);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0 && session->state == STATE_QUIT) {
            session_close(session);
            session_next(session);
            return;
        }
        if (n <= 0) {
            session_fail(session, n == 0 ? "the server ended the connection" : strerror(errno));
            return;
        }
        if (!session_hear(session, bytes, (size_t)n))
            return;
        again |= to_the_end;
    }
}

void load_session_event(struct load_session *session, uint32_t events)
{
    if (session->state == STATE_HANDSHAKE) {
        session_shake(session);
        return;
    }
    if (session->link.out_length > 0 && (events & EPOLLOUT) &&
        !session_sent(session, load_link_flush(&session->link)))
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        session_read(session, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}
