/* The whole server, from a client's first octet to the file in the spool, on a loop of its own: the
 * input is what clients say and what happens around them. Each run starts a server and stops it, and
 * leaves nothing behind: no connection, no counter, no descriptor, no file, no memory.
 *
 * The first octet of an input, a digit, chooses the settings. All others are said by the present
 * client, but for these marks:
 *
 *     ~1 … ~8   what comes next is said by this client, which comes in
 *     ~|        the end of a segment, and a turn of the loop, as behind every mark below
 *     ~h ~c     the client will say no more; it is gone
 *     ~p ~P     it stops reading; it reads again
 *     ~V ~n     it begins TLS, if it was told to; it ends it (close_notify)
 *     ~t ~m ~T  a second passes, a minute, five
 *     ~D ~d ~e  from now on the disk takes its time; it does a piece of its work; the next but one
 *     ~w ~r     the next write or rename fails
 *     ~y ~z     the next flush fails; the next but one
 *     ~f        the disk is full, or no longer
 *     ~H ~S     SIGHUP; SIGTERM
 *
 * and, without a turn:
 *
 *     ~L        lines of 16 KiB in all
 *     ~Ax       the allocation behind as many as the octet x says fails
 *     ~gx       under TLS: the octet x, as it is
 *     ~~ ~!     a tilde; the octet 255
 */
#include "smtpd/connection.h"
#include "smtpd/counters.h"
#include "smtpd/server.h"

#include "fuzz.h"
#include "scratch.h"
#include "session_client.h"
#include "session_replay.h"
#include "session_settings.h"
#include "session_world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>

enum { CLIENTS = 8, LINES_MAX = 10, LINES_SIZE = 16 * 1024 };

/* Turns of the loop after which everything has come to an end, with a second between two: delays and
 * farewells are over, and nobody who hung up is waited for as if he were silent (SMTPD_TIMEOUT). */
enum { TURNS_MAX = 100, TURNS_AT_ONCE = 4 };

static char certificate[sizeof scratch_path + 8], key[sizeof scratch_path + 8];
static struct config config;
static struct server server;
static struct spool spool; /* the server's, seen from outside */
static uv_loop_t loop;
static struct client clients[CLIENTS];
static char lines[LINES_SIZE];
static int first_free;         /* descriptor, before the server was started */
static struct client *present; /* whose words come next */
static unsigned lines_said;
static bool slow_disk, told_to_stop;

static int next_descriptor(void)
{
    int descriptor = dup(STDERR_FILENO);

    LAW(descriptor >= 0);
    close(descriptor);
    return descriptor;
}

static void begin(unsigned choice)
{
    const struct settings_paths paths = {
        .spool = scratch_path, .certificate = certificate, .key = key};
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(40000)};

    world_reset();
    settings_choose(&config, choice, &paths);
    slow_disk = told_to_stop = false;
    present = &clients[0];
    lines_said = 0;
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

/* Marks that are words, or part of them. */
static bool say(char mark, uint8_t argument)
{
    static const char tilde = '~', high = '\xff';

    switch (mark) {
    case '~':
        client_say(present, &tilde, 1);
        return true;
    case '!':
        client_say(present, &high, 1);
        return true;
    case 'L':
        if (lines_said++ < LINES_MAX)
            client_say(present, lines, sizeof lines);
        return true;
    case 'A':
        world_starve(argument);
        return true;
    case 'g':
        client_garble(present, (char)argument);
        return true;
    default:
        return false;
    }
}

/* What the present client does when it has said what it had to say. */
static void act(char mark)
{
    client_turn(present);
    switch (mark) {
    case 'h':
        client_half_close(present);
        break;
    case 'c':
        client_go(present);
        break;
    case 'V':
        client_begin_tls(present, config.require_tls);
        break;
    case 'n':
        client_end_tls(present);
        break;
    case 'p':
    case 'P':
        present->deaf = mark == 'p';
        break;
    default:
        if (mark >= '1' && mark < '1' + CLIENTS) {
            present = &clients[mark - '1'];
            come_in(present);
        }
        break;
    }
}

static void change_world(char mark)
{
    switch (mark) {
    case 't':
        world_pass(1000);
        break;
    case 'm':
        world_pass(60 * 1000);
        break;
    case 'T':
        world_pass(300 * 1000);
        break;
    case 'D':
        slow_disk = true;
        break;
    case 'd':
    case 'e':
        world_work(mark == 'e' ? 1 : 0);
        break;
    case 'w':
        world_fail(WORLD_WRITE_FAILS, 0);
        break;
    case 'y':
    case 'z':
        world_fail(WORLD_SYNC_FAILS, mark == 'z' ? 1 : 0);
        break;
    case 'r':
        world_fail(WORLD_RENAME_FAILS, 0);
        break;
    case 'f':
        config.min_free = config.min_free == 0 ? LONG_MAX : 0;
        break;
    default:
        break;
    }
}

static void tell_server(char mark)
{
    if (mark == 'S')
        stop();
    if (mark != 'H')
        return;
    world_enter();
    server_reload(&server);
    world_leave();
}

/* One of the marks listed above; `argument` is the octet behind it. How many octets it took. */
static size_t happen(char mark, uint8_t argument)
{
    if (say(mark, argument))
        return mark == 'A' || mark == 'g' ? 2 : 1;
    client_due(present);
    act(mark);
    change_world(mark);
    tell_server(mark);
    turn();
    return 1;
}

static void play(const char *script, size_t length)
{
    size_t at = 0;

    come_in(present);
    while (at < length) {
        const char *mark = memchr(script + at, '~', length - at);
        size_t plain = mark != NULL ? (size_t)(mark - script) - at : length - at;

        client_say(present, script + at, plain);
        at += plain + 1;
        if (at < length)
            at += happen(script[at], at + 1 < length ? (uint8_t)script[at + 1] : 0);
    }
    client_due(present);
    turn();
    turn();
}

/* Nothing fails any more, clients say what they have left to say and read to the end: the server has
 * no reason not to come to an end with them. A client in whose handshake octets were put waits for the
 * server, which waits for the rest of a record: it gives up half-way. */
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
            if (client_sent(&clients[i]) || turns >= TURNS_MAX / 2)
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
static size_t clear(enum queue queue, enum queue_directory directory)
{
    DIR *stream = fdopendir(
        openat(spool.directories[queue][directory], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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
    struct replay replay = {.spool = &spool,
                            .discarded = settings_discarded,
                            .stored = config.site.domains.items[0],
                            .hostname = config.site.hostname,
                            .relays_for = settings_relay_for};
    bool balanced = config.proxy_clients.count > 0, known = true;
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
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        size_t left = clear((enum queue)queue, QUEUE_NEW);
        LAW(clear((enum queue)queue, QUEUE_TMP) == 0);
        LAW(!known || left <= replay.unanswered);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    begin((uint8_t)(data[0] - '0') % SETTINGS_COUNT);
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
