/* Sends mail over SMTP as fast as a server takes it, or at a fixed rate, and says how long each
 * message took; or holds idle connections; or makes TLS handshakes. Loopback only.
 *
 *     load [-k] [-p] [-t] [-s SESSIONS] [-n MESSAGES] [-l SIZE] [-r RATE] [-u USERS] [-d DOMAIN] HOST:PORT
 *     load -i COUNT [-w SECONDS] [-t] HOST:PORT
 *     load -H COUNT [-s SESSIONS] [-D] HOST:PORT
 *
 * README.md has the meaning. Exit code 1: something was rejected, or failed. */
#include "tests/bench/load.h"

#include "tests/bench/load_session.h"
#include "tests/bench/load_tls.h"
#include "tests/bench/measure.h"
#include "tests/bench/message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

enum { EVENTS = 256, COUNT_MAX = 100000000, SESSIONS_MAX = 100000 };

/* When nothing happens for so long, the server has forgotten somebody. */
static const double patience = 60;

static void usage(void)
{
    fputs("usage: load [-k] [-p] [-t] [-s SESSIONS] [-n MESSAGES] [-l SIZE] [-r RATE] [-u USERS]\n"
          "            [-d DOMAIN] HOST:PORT\n"
          "       load -i COUNT [-w SECONDS] [-t] HOST:PORT\n"
          "       load -H COUNT [-s SESSIONS] [-D] HOST:PORT\n",
          stderr);
    exit(EX_USAGE);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static void find_address(struct load *load, char *text)
{
    char *port = strrchr(text, ':');
    if (port == NULL)
        usage();
    *port++ = '\0';
    if (text[0] == '[' && text[strlen(text) - 1] == ']') {
        text[strlen(text) - 1] = '\0';
        text++;
    }
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(text, port, &hints, &found) != 0 || !is_loopback(found->ai_addr)) {
        fprintf(stderr, "load: %s:%s is not a port of this machine's loopback\n", text, port);
        exit(EX_USAGE);
    }
    memcpy(&load->address, found->ai_addr, found->ai_addrlen);
    load->address_length = found->ai_addrlen;
    freeaddrinfo(found);
}

bool load_take(struct load *load, double *began)
{
    if (!load->started || load->begun == load->total)
        return false;
    double now = measure_now();
    double due = load->rate > 0 ? load->start + (double)load->begun / load->rate : now;
    if (due > now)
        return false;
    *began = due;
    load->begun++;
    return true;
}

/* How long to wait for an event, in seconds. */
static double next_wait(const struct load *load)
{
    if (load->rate <= 0 || !load->started || load->free_first == NULL || load->begun == load->total)
        return patience;
    double wait = load->start + (double)load->begun / load->rate - measure_now();
    return wait > 0 ? wait : 0;
}

/* Waits `seconds` at most, and lets the sessions have what happened. False: nothing did. An event
 * of no session is standard input's: `*input` is set. */
static bool wait_once(struct load *load, double seconds, bool *input)
{
    struct epoll_event events[EVENTS];
    struct timespec timeout = {.tv_sec = (time_t)seconds};
    timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
    int count = epoll_pwait2(load->poll, events, EVENTS, &timeout, NULL);
    if (count < 0 && errno != EINTR)
        measure_die("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL)
            *input = true;
        else
            load_session_event(events[i].data.ptr, events[i].events);
    }
    return count != 0;
}

static void start_clock(struct load *load)
{
    load->started = true;
    load->start = load->end = measure_now();
}

static bool is_over(const struct load *load)
{
    return load->ok + load->rejected + load->errors == load->total &&
           (load->open == 0 || load->goal == LOAD_IDLE);
}

static void run(struct load *load)
{
    /* Kept connections are there before the first message. */
    if (!load->keep)
        start_clock(load);
    for (;;) {
        if (!load->started && load->settled == load->sessions)
            start_clock(load);
        load_session_dispatch(load);
        if (is_over(load))
            return;
        double wait = next_wait(load);
        if (!wait_once(load, wait, &(bool){false}) && wait >= patience) {
            fprintf(stderr, "load: nothing was heard for %.0f seconds\n", patience);
            load->errors = load->total - load->ok - load->rejected;
            return;
        }
    }
}

static void report(struct load *load, double cpu)
{
    double seconds = load->end - load->start;
    double rate = seconds > 0 ? (double)load->ok / seconds : 0;
    if (load->goal == LOAD_HANDSHAKES) {
        printf("handshakes=%zu errors=%zu seconds=%.6f rate=%.1f cpu_seconds=%.6f\n", load->ok,
               load->errors + load->rejected, seconds, rate, cpu);
        return;
    }
    measure_sort(load->dot_seconds, load->ok);
    measure_sort(load->message_seconds, load->ok);
    printf("ok=%zu rejected=%zu errors=%zu connections=%zu seconds=%.6f rate=%.1f"
           " dot_p50_ms=%.3f dot_p99_ms=%.3f dot_max_ms=%.3f"
           " message_p50_ms=%.3f message_p99_ms=%.3f cpu_seconds=%.6f\n",
           load->ok, load->rejected, load->errors, load->connections, seconds, rate,
           1e3 * measure_percentile(load->dot_seconds, load->ok, 0.5),
           1e3 * measure_percentile(load->dot_seconds, load->ok, 0.99),
           1e3 * measure_percentile(load->dot_seconds, load->ok, 1),
           1e3 * measure_percentile(load->message_seconds, load->ok, 0.5),
           1e3 * measure_percentile(load->message_seconds, load->ok, 0.99), cpu);
}

/* Says that the connections are up, and keeps them until the time is over or standard input ends.
 * One that cannot be waited for, as a file or /dev/null, does not end. */
static void hold(struct load *load, double seconds)
{
    printf("idle_up=%zu errors=%zu\n", load->ok, load->errors + load->rejected);
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(load->poll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0 && errno != EPERM)
        measure_die("standard input");
    double until = measure_now() + seconds, left;
    while ((left = until - measure_now()) > 0) {
        bool input = false;
        char bytes[512];
        wait_once(load, left, &input);
        if (input && read(STDIN_FILENO, bytes, sizeof bytes) <= 0)
            break;
    }
    if (load->lost > 0)
        fprintf(stderr, "load: the server ended %zu of the idle connections\n", load->lost);
}

/* What every message is, and where its times go. */
static void make_messages(struct load *load, size_t size)
{
    char *data = malloc(size + 3);
    load->dot_seconds = calloc(load->total, sizeof *load->dot_seconds);
    load->message_seconds = calloc(load->total, sizeof *load->message_seconds);
    if (data == NULL || load->dot_seconds == NULL || load->message_seconds == NULL)
        measure_die("memory");
    message_make(data, size);
    memcpy(data + size, ".\r\n", 3);
    load->data = data;
    load->data_length = size + 3;
}

static void allow_many_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct load load = {.total = 1000, .sessions = 10, .users = 1000, .domain = "bench.example"};
    size_t size = 4096;
    double hold_seconds = 3600;
    for (int letter; (letter = getopt(argc, argv, "kpts:n:l:r:u:d:i:w:H:D")) != -1;) {
        switch (letter) {
        case 'k':
            load.keep = true;
            break;
        case 'p':
            load.pipeline = true;
            break;
        case 't':
            load.starttls = true;
            break;
        case 's':
            load.sessions = measure_count('s', optarg, 1, SESSIONS_MAX);
            break;
        case 'n':
            load.total = measure_count('n', optarg, 1, COUNT_MAX);
            break;
        case 'l':
            size = measure_count('l', optarg, message_smallest(), 1 << 30);
            break;
        case 'r':
            load.rate = measure_number('r', optarg, 0.001, 1e6);
            break;
        case 'u':
            load.users = measure_count('u', optarg, 1, COUNT_MAX);
            break;
        case 'd':
            load.domain = optarg;
            break;
        case 'i':
            load.goal = LOAD_IDLE;
            load.total = measure_count('i', optarg, 1, SESSIONS_MAX);
            break;
        case 'w':
            hold_seconds = measure_number('w', optarg, 0, 86400);
            break;
        case 'H':
            load.goal = LOAD_HANDSHAKES;
            load.starttls = true;
            load.total = measure_count('H', optarg, 1, COUNT_MAX);
            break;
        case 'D':
            load.tls_at_once = true;
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 1 || strlen(load.domain) > 255 ||
        (load.tls_at_once && load.goal != LOAD_HANDSHAKES) ||
        (load.goal != LOAD_MESSAGES && (load.keep || load.pipeline || load.rate > 0)))
        usage();
    find_address(&load, argv[optind]);
    if (load.goal == LOAD_IDLE || load.sessions > load.total)
        load.sessions = load.total;

    signal(SIGPIPE, SIG_IGN);
    allow_many_descriptors();
    /* A message is to begin when it is due, not 50 microseconds later. */
    if (load.rate > 0)
        prctl(PR_SET_TIMERSLACK, 1);
    if (load.goal == LOAD_MESSAGES)
        make_messages(&load, size);
    if (load.starttls)
        load.tls = load_tls_open();
    load.poll = epoll_create1(EPOLL_CLOEXEC);
    struct load_session *sessions = load_session_make(&load);
    if (load.poll < 0 || sessions == NULL)
        measure_die("sessions");
    double cpu = measure_cpu();
    run(&load);
    if (load.goal == LOAD_IDLE)
        hold(&load, hold_seconds);
    else
        report(&load, measure_cpu() - cpu);
    load_session_unmake(sessions);
    SSL_CTX_free(load.tls);
    free(load.message_seconds);
    free(load.dot_seconds);
    free(load.data);
    return load.rejected + load.errors + load.lost > 0;
}
