/* The whole server, from a client's first octet to the file in the spool, on a loop of its own: the
 * input is what clients say and what happens around them. Each run starts a server and stops it, and
 * leaves nothing behind: no connection, no counter, no descriptor, no file, no memory.
 *
 * The first octet of an input, a digit, chooses the settings. Then every octet is said by the present client,
 * but for these:
 *
 *     ~|  the end of a segment           ~1 … ~8  the next words are of this client
 *     ~.  a turn of the loop             ~h ~c    it will say no more; it is gone
 *     ~t ~m ~T  a second, a minute, five pass     ~p ~P  it stops reading, and reads again
 *     ~D  the disk takes its time        ~d ~e    it does a piece of work, or the next but one
 *     ~w ~y ~r  the next write, flush, rename fails  ~f  the disk is full, or no longer
 *     ~Ax the allocation behind x fails  ~L       says 16 KiB of lines
 *     ~H  SIGHUP                         ~S       SIGTERM
 *     ~V  begins TLS, where it may       ~n ~gx   ends it (close_notify), sends x beside it
 *     ~~  a tilde                        ~!       the octet 255
 */
#include "smtpd/connection.h"
#include "smtpd/counters.h"
#include "smtpd/server.h"

#include "fuzz.h"
#include "scratch.h"
#include "session_client.h"
#include "session_replay.h"
#include "session_world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>

enum { SETTINGS = 7, CLIENTS = 8, LINES_MAX = 10, LINES_SIZE = 16 * 1024 };

/* Turns of the loop after which everything has come to an end, with a second between two. */
enum { TURNS_MAX = 400, TURNS_AT_ONCE = 4 };

static char address[] = "127.0.0.1:0", every[] = "*", discarded[] = "discard.example",
            bad[] = "bad.example", nobody[] = "nobody@t.example", balancers[] = "192.0.2.0/24";
static char *addresses[] = {address}, *domains[] = {every}, *discard_domains[] = {discarded},
            *reject_senders[] = {bad}, *reject_recipients[] = {nobody},
            *proxy_clients[] = {balancers};

/* Limits are low, so that an input of a few hundred octets comes to them. */
static const struct config usual = {
    .listen = {.items = addresses, .count = 1},
    .port = -1,
    .hostname = "mx.example",
    .domains = {.items = domains, .count = 1},
    .discard_domains = {.items = discard_domains, .count = 1},
    .reject_senders = {.items = reject_senders, .count = 1},
    .reject_recipients = {.items = reject_recipients, .count = 1},
    .max_size = 150000,
    .max_recipients = 4,
    .max_connections = 100,
    .max_connections_per_client = 2,
    .max_errors = 8,
    .max_messages = 5,
    .max_junk = 12,
    .error_delay = 1,
    .timeout = 300,
    .min_rate = 100,
    .max_time = 3600,
    .confine = CONFINE_OFF,
};

static char certificate[sizeof scratch_path + 8], key[sizeof scratch_path + 8];
static struct config config;
static struct server server;
static struct spool spool; /* the server's, seen from outside */
static uv_loop_t loop;
static struct client clients[CLIENTS];
static char lines[LINES_SIZE];
static int first_free; /* descriptor, before the server was started */
static bool slow_disk, told_to_stop;

static void choose_settings(uint8_t choice)
{
    config = usual;
    config.common.spool = scratch_path;
    switch (choice) {
    case 1: /* a busy server, and one of several */
        config.reuseport = true;
        config.max_connections = 8;
        config.max_connections_per_client = 8;
        break;
    case 2: /* a suspicious one */
        config.pregreet = 2;
        config.min_rate = 0;
        break;
    case 3: /* one that takes all it is given */
        config.max_errors = config.max_junk = config.max_messages = config.max_recipients = 40;
        config.error_delay = 0;
        break;
    case 4: /* one behind load balancers: the first two clients are */
        config.proxy_clients = (struct setting_list){.items = proxy_clients, .count = 1};
        break;
    case 5: /* one that offers TLS, and one that demands it: its clients know only TLS 1.2 */
    case 6:
        config.require_tls = choice == 6;
        config.tls_cert = certificate;
        config.tls_key = key;
        break;
    default:
        break;
    }
}

static int next_descriptor(void)
{
    int descriptor = dup(STDERR_FILENO);

    LAW(descriptor >= 0);
    close(descriptor);
    return descriptor;
}

static void begin(uint8_t choice)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(40000)};

    world_reset();
    choose_settings(choice);
    slow_disk = told_to_stop = false;
    first_free = next_descriptor();
    LAW(uv_loop_init(&loop) == 0);
    LAW(server_start(&server, &loop, &config) == 0);
    /* Two and two are one client to smtpd: the same address, then the same /64. */
    LAW(inet_pton(AF_INET6, "::ffff:192.0.2.1", &peer.sin6_addr) == 1);
    client_init(&clients[0], (struct sockaddr *)&peer, sizeof peer);
    client_init(&clients[1], (struct sockaddr *)&peer, sizeof peer);
    LAW(inet_pton(AF_INET6, "2001:db8::1", &peer.sin6_addr) == 1);
    for (size_t i = 2; i < CLIENTS; i++) {
        peer.sin6_addr.s6_addr[7] = (uint8_t)(i / 2);
        peer.sin6_addr.s6_addr[15] = (uint8_t)i;
        client_init(&clients[i], (struct sockaddr *)&peer, sizeof peer);
    }
}

/* One turn of everything. */
static void turn(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        client_turn(&clients[i]);
    world_enter();
    uv_run(&loop, UV_RUN_NOWAIT);
    world_leave();
    while (!slow_disk && world_work(0))
        ;
    for (size_t i = 0; i < CLIENTS; i++)
        client_turn(&clients[i]);
}

/* In comes a client, unless the server has stopped to listen. */
static void come_in(struct client *client)
{
    int descriptor;

    if (client_connected(client) || server.listener.closed)
        return;
    descriptor = client_connect(client);
    world_enter();
    connection_accept(&server, descriptor, (struct sockaddr *)&client->peer);
    world_leave();
}

static void stop(void)
{
    if (told_to_stop)
        return;
    told_to_stop = true;
    world_enter();
    server_stop(&server);
    world_leave();
}

/* One of the marks listed above; `argument` is the octet behind it. How many octets more it took. */
static size_t happen(struct client **client, char what, uint8_t argument, unsigned *lines_said)
{
    static const char tilde = '~', high = '\xff';

    switch (what) {
    case '~':
        client_say(*client, &tilde, 1);
        return 0;
    case '!':
        client_say(*client, &high, 1);
        return 0;
    case 'L':
        if ((*lines_said)++ < LINES_MAX)
            client_say(*client, lines, sizeof lines);
        return 0;
    case 'A':
        world_starve(argument);
        return 1;
    case 'g':
        client_garble(*client, (char)argument);
        return 1;
    default:
        break;
    }
    client_due(*client);
    if (what >= '1' && what < '1' + CLIENTS) {
        *client = &clients[what - '1'];
        come_in(*client);
    }
    switch (what) {
    case 'h':
        client_turn(*client);
        client_half_close(*client);
        break;
    case 'c':
        client_turn(*client);
        client_go(*client);
        break;
    case 'V':
        client_turn(*client);
        client_begin_tls(*client, config.require_tls);
        break;
    case 'n':
        client_turn(*client);
        client_end_tls(*client);
        break;
    case 't':
        world_pass(1000);
        break;
    case 'm':
        world_pass(60 * 1000);
        break;
    case 'T':
        world_pass(300 * 1000);
        break;
    case 'p':
    case 'P':
        (*client)->deaf = what == 'p';
        break;
    case 'D':
        slow_disk = true;
        break;
    case 'd':
    case 'e':
        client_turn(*client);
        world_work(what == 'e' ? 1 : 0);
        break;
    case 'w':
        world_fail(WORLD_WRITE_FAILS);
        break;
    case 'y':
        world_fail(WORLD_SYNC_FAILS);
        break;
    case 'r':
        world_fail(WORLD_RENAME_FAILS);
        break;
    case 'f':
        config.min_free = config.min_free == 0 ? LONG_MAX : 0;
        break;
    case 'H':
        world_enter();
        server_reload(&server);
        world_leave();
        break;
    case 'S':
        stop();
        break;
    default:
        break;
    }
    turn();
    return 0;
}

static void play(const char *script, size_t length)
{
    struct client *client = &clients[0];
    unsigned lines_said = 0;
    size_t at = 0;

    come_in(client);
    while (at < length) {
        const char *mark = memchr(script + at, '~', length - at);
        size_t plain = mark != NULL ? (size_t)(mark - script) - at : length - at;

        client_say(client, script + at, plain);
        at += plain + 1;
        if (at < length) {
            uint8_t argument = at + 1 < length ? (uint8_t)script[at + 1] : 0;
            at += 1 + happen(&client, script[at], argument, &lines_said);
        }
    }
    client_due(client);
    turn();
    turn();
}

/* Nothing fails any more, clients say what they have left to say and read to the end: the server has
 * no reason not to come to an end with them. */
static void finish(void)
{
    world_heal();
    slow_disk = false;
    config.min_free = 0;
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i].deaf = false;
    turn();
    for (size_t turns = 0; turns < TURNS_MAX && server.connection_count > 0; turns++) {
        for (size_t i = 0; i < CLIENTS; i++) {
            client_due(&clients[i]);
            if (client_sent(&clients[i]))
                client_half_close(&clients[i]);
        }
        turn();
        if (turns >= TURNS_AT_ONCE)
            world_pass(1000);
    }
    LAW(server.connection_count == 0 && server.connections == NULL);
    for (size_t i = 0; i < server.clients.bucket_count; i++)
        LAW(server.clients.buckets[i] == NULL);
    stop();
    for (size_t turns = 0; turns < TURNS_MAX && uv_loop_alive(&loop); turns++) {
        turn();
        world_pass(100);
    }
    LAW(server.closed && server.committer.messages == 0 && server.wheel.count == 0);
    LAW(uv_loop_close(&loop) == 0);
    LAW(counters_set.metrics[COUNTER_CONNECTIONS_OPEN].value == 0);
}

/* How many files are left in a directory of the spool; they are removed. */
static size_t clear(enum queue_directory directory)
{
    DIR *stream = fdopendir(
        openat(spool.directories[QUEUE_STORE][directory], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    size_t count = 0;

    LAW(stream != NULL);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        LAW(unlinkat(dirfd(stream), entry->d_name, 0) == 0);
        count++;
    }
    closedir(stream);
    return count;
}

static void check_conversations(void)
{
    struct replay replay = {.spool = &spool, .discarded = discarded};
    bool balanced = config.proxy_clients.count > 0, known = true;
    size_t left;

    for (size_t i = 0; i < CLIENTS; i++) {
        struct client *client = &clients[i];
        known = known && !client->gone;
        replay.client = address_from((struct sockaddr *)&client->peer);
        replay.proxied = balanced && i < 2;
        replay_run(&replay, &(struct replay_talk){
                                .said = slice_make(client->said.data, client->sent),
                                .heard = slice_make(client->heard.data, client->heard.length),
                                .said_in_clear = client->said_in_clear,
                                .heard_in_clear = client->heard_in_clear,
                            });
    }
    LAW(clear(QUEUE_TMP) == 0);
    left = clear(QUEUE_NEW);
    LAW(!known || left <= replay.unanswered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    begin((uint8_t)(data[0] - '0') % SETTINGS);
    play((const char *)data + 1, size - 1);
    finish();
    check_conversations();
    for (size_t i = 0; i < CLIENTS; i++)
        client_free(&clients[i]);
    LAW(next_descriptor() == first_free);
    return 0;
}

/* A server's buffers are new in each run: fewer of the old ones are kept back, or the processor's
 * cache never sees the same memory twice. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=16";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    unsetenv("LISTEN_FDS");
    signal(SIGPIPE, SIG_IGN);
    LAW(spool_open(&spool, scratch_make()) == 0);
    snprintf(certificate, sizeof certificate, "%s/cert", scratch_path);
    snprintf(key, sizeof key, "%s/key", scratch_path);
    tls_client_prepare(certificate, key);
    /* libuv opens something for good with its first loop. */
    LAW(uv_loop_init(&loop) == 0 && uv_loop_close(&loop) == 0);
    for (size_t i = 0; i < sizeof lines; i++)
        lines[i] = i % 1024 < 1022 ? 'x' : "\r\n"[i % 2];
    return 0;
}
