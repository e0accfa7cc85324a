/* The shared part of smtpd, and its life: see the header. */
#include "smtpd/server.h"

#include "common/log.h"
#include "common/program.h"
#include "smtpd/connection.h"
#include "smtpd/counters.h"
#include "smtpd/tls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>

/* A connection needs a descriptor, and another for each queue while its message is in tmp/; the loop, the spool,
 * the log, the sockets we listen on, and connections that are refused need the rest. */
enum { DESCRIPTORS_EACH = 2, DESCRIPTORS_RELAYING = 3, DESCRIPTORS_OTHER = 40 };

/* How long the want of descriptors tightens the limits after it was last felt. */
enum { DESCRIPTORS_HOLD_MS = 30000 };

/* What is in flight when the program is told to stop has this long, so that of PROGRAM_STOP_SECONDS
 * there is left what a farewell takes, and a second for whatever is late. */
enum { STOP_MS = (PROGRAM_STOP_SECONDS - 1) * 1000 - WAITING_FAREWELL_MS };

uint32_t server_tick(uint64_t milliseconds)
{
    return (uint32_t)(milliseconds / SERVER_TICK_MS);
}

static bool load_policy(struct server *server)
{
    const struct config *config = server->config;
    struct policy fresh = {.hostname = config->site.hostname};
    bool loaded = site_load(&fresh.site, &config->site) &&
                  names_build(&fresh.discard_domains, config->discard_domains.items,
                              config->discard_domains.count) &&
                  names_build(&fresh.reject_senders, config->reject_senders.items,
                              config->reject_senders.count) &&
                  names_build(&fresh.reject_recipients, config->reject_recipients.items,
                              config->reject_recipients.count) &&
                  networks_build(&fresh.relay_clients, config->relay_clients.items,
                                 config->relay_clients.count);

    fresh.senders_broken = config->reject_senders.broken;
    fresh.recipients_broken = config->discard_domains.broken || config->reject_recipients.broken;
    fresh.relay_clients_broken = config->relay_clients.broken;
    policy_free(loaded ? &server->policy : &fresh);
    if (loaded)
        server->policy = fresh;
    return loaded;
}

/* A list that could not be read again has its old entries. */
static bool load_proxies(struct server *server)
{
    const struct setting_list *list = &server->config->proxy_clients;
    struct networks fresh;

    if (!networks_build(&fresh, list->items, list->count))
        return false;
    networks_free(&server->proxies);
    server->proxies = fresh;
    return true;
}

/* Reads certificate and key. False, after saying why, when they cannot be used; what was loaded before
 * then stays. */
static bool load_tls(struct server *server)
{
    const struct config *config = server->config;
    char reason[TLS_REASON_SIZE];
    struct tls_context *fresh;

    if (config->tls_cert == NULL)
        return true;
    fresh = tls_context_load(config->tls_cert, config->tls_key, reason);
    if (fresh == NULL) {
        log_error(server->tls != NULL ? "tls_kept" : "tls_not_loaded",
                  LOG_TEXT("certificate", config->tls_cert), LOG_TEXT("key", config->tls_key),
                  LOG_TEXT("reason", reason));
        return false;
    }
    if (reason[0] != '\0')
        log_warn("tls_certificate", LOG_TEXT("certificate", config->tls_cert),
                 LOG_TEXT("reason", reason));
    log_info("tls_loaded", LOG_TEXT("certificate", config->tls_cert));
    tls_context_free(server->tls);
    server->tls = fresh;
    counters_set_value(COUNTER_TLS_EXPIRY, (double)tls_context_expiry(fresh));
    return true;
}

static void init_pressure(struct server *server)
{
    const struct config *config = server->config;
    const struct pressure_limits calm = {
        .timeout = (unsigned)config->timeout,
        .max_time = (unsigned)config->max_time,
        .max_errors = (unsigned)config->max_errors,
        .max_junk = (unsigned)config->max_junk,
        .error_delay = (unsigned)config->error_delay,
    };

    pressure_init(&server->pressure, &calm);
}

/* What of the limits the sessions look at. */
static void set_pressed_rules(struct server *server)
{
    const struct pressure_limits *limits = pressure_limits(&server->pressure);

    server->rules.max_errors = limits->max_errors;
    server->rules.max_junk = limits->max_junk;
    server->rules.delay_errors = limits->error_delay > 0;
}

/* Descriptors that came back may be gone again at once. */
static bool lacks_descriptors(struct server *server)
{
    uint64_t now = uv_now(server->loop);

    if (server->listener.paused)
        server->relieved = now + DESCRIPTORS_HOLD_MS;
    return now < server->relieved;
}

void server_feel_pressure(struct server *server)
{
    const struct pressure_limits *limits;

    if (!pressure_update(&server->pressure, server->connection_count, server->connection_limit,
                         lacks_descriptors(server)))
        return;
    limits = pressure_limits(&server->pressure);
    set_pressed_rules(server);
    counters_add(COUNTER_PRESSURE, server->pressure.on ? 1 : -1);
    log_warn(server->pressure.on ? "pressure" : "pressure_over",
             LOG_NUMBER("connections", server->connection_count),
             LOG_NUMBER("limit", server->connection_limit), LOG_NUMBER("timeout", limits->timeout),
             LOG_NUMBER("max_time", limits->max_time), LOG_NUMBER("max_errors", limits->max_errors),
             LOG_NUMBER("max_junk", limits->max_junk),
             LOG_NUMBER("error_delay", limits->error_delay));
    for (struct connection *connection = server->connections;
         server->pressure.on && connection != NULL; connection = connection->next)
        waiting_tighten(connection);
}

/* Raises the limit of descriptors to what the settings need, or lowers the settings to what it is.
 */
static void fit_descriptors(struct server *server)
{
    const struct setting_list *relay_clients = &server->config->relay_clients;
    bool relaying = relay_clients->count > 0 || relay_clients->path != NULL;
    rlim_t each = relaying ? DESCRIPTORS_RELAYING : DESCRIPTORS_EACH;
    rlim_t wanted = (rlim_t)server->connection_limit * each + DESCRIPTORS_OTHER;
    struct rlimit limit;
    size_t fitting = 1;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= wanted)
        return;
    if (limit.rlim_cur > DESCRIPTORS_OTHER + each)
        fitting = (limit.rlim_cur - DESCRIPTORS_OTHER) / each;
    log_warn("connections_lowered", LOG_TEXT("setting", "SMTPD_MAX_CONNECTIONS"),
             LOG_NUMBER("from", server->connection_limit), LOG_NUMBER("to", fitting),
             LOG_NUMBER("descriptors", limit.rlim_cur));
    server->connection_limit = fitting;
}

static bool connect_cb(void *owner, int descriptor, const struct sockaddr *peer)
{
    return connection_accept(owner, descriptor, peer);
}

static void listener_closed_cb(void *owner)
{
    server_settle(owner);
}

static void released_cb(struct committer *committer)
{
    server_settle(
        (struct server *)(void *)((char *)committer - offsetof(struct server, committer)));
}

static bool allocate(struct server *server)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return false;
    buffer_init(&server->replies, SERVER_REPLIES_MAX);
    buffer_init(&server->plain, TLS_PLAIN_MAX);
    buffer_init(&server->records, TLS_RECORDS_MAX);
    server->input = malloc(SERVER_READ_SIZE);
    return server->input != NULL && buffer_reserve(&server->replies, SERVER_REPLIES_MAX) &&
           clients_init(&server->clients, server->connection_limit, seed) && load_policy(server) &&
           load_proxies(server);
}

static void release(struct server *server)
{
    buffer_free(&server->replies);
    buffer_free(&server->plain);
    buffer_free(&server->records);
    tls_context_free(server->tls);
    free(server->input);
    clients_free(&server->clients);
    policy_free(&server->policy);
    networks_free(&server->proxies);
}

static void set_rules(struct server *server)
{
    const struct config *config = server->config;

    server->rules = (struct rules){
        .hostname = config->site.hostname,
        .policy = &server->policy,
        .max_size = (uint64_t)config->max_size,
        .max_recipients = (size_t)config->max_recipients,
        .max_messages = (unsigned)config->max_messages,
        .refuse_pipelining = config->pregreet > 0,
        .tls = config->tls_cert != NULL,
        .require_tls = config->require_tls,
    };
    set_pressed_rules(server);
}

int server_start(struct server *server, uv_loop_t *loop, struct config *config)
{
    int error;

    *server = (struct server){.loop = loop, .config = config};
    server->connection_limit = (size_t)config->max_connections;
    fit_descriptors(server);
    init_pressure(server);
    set_rules(server);
    if (!allocate(server)) {
        log_error("no_memory");
        return EX_OSERR;
    }
    if (!load_tls(server))
        return EX_CONFIG;
    error = spool_open(&server->spool, config->common.spool);
    if (error != 0)
        return EX_OSERR;
    error = committer_start(&server->committer, loop, &server->spool);
    if (error != 0) {
        log_error("no_committer", LOG_ERRNO(error));
        return EX_OSERR;
    }
    server->committer.released_cb = released_cb;
    wheel_init(&server->wheel);
    uv_timer_init(loop, &server->ticker);
    uv_timer_init(loop, &server->deadline);

    server->listener = (struct listener){
        .connect_cb = connect_cb, .closed_cb = listener_closed_cb, .owner = server};
    return listener_start(&server->listener, loop, config);
}

void server_reload(struct server *server)
{
    if (server->closed) /* and what would be loaded has been let go of */
        return;
    load_tls(server);
    config_reread(server->config);
    if (!load_policy(server) || !load_proxies(server))
        log_error("no_memory");
    else
        log_info("reloaded");
}

void server_measure(const struct server *server)
{
    uint64_t least = UINT64_MAX, bytes, files;

    counters_set_value(COUNTER_CONNECTIONS_LIMIT, (double)server->connection_limit);
    counters_set_value(COUNTER_SPOOL_MIN_FREE, (double)server->config->min_free);
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        if (spool_room(&server->spool, (enum queue)queue, &bytes, &files) == 0 && bytes < least)
            least = bytes;
    if (least != UINT64_MAX) /* else what was known holds, as when the spool is closed */
        counters_set_value(COUNTER_SPOOL_FREE, (double)least);
}

static void deadline_cb(uv_timer_t *timer)
{
    connection_end_all(timer->data, EVENT_SHUTDOWN_DEADLINE);
}

static void begin_end(struct server *server, unsigned milliseconds)
{
    server->stopping = true;
    uv_timer_start(&server->deadline, deadline_cb, milliseconds, 0);
    connection_end_all(server, EVENT_SHUTDOWN);
    listener_close(&server->listener);
}

static void withdrawn_cb(uv_timer_t *timer)
{
    struct server *server = timer->data;

    begin_end(server, STOP_MS - server->withdrawal_ms);
}

/* While new clients are being led to another process nobody here is sent away: who comes in that
 * time, or is here already, finds the server as it ever was. */
void server_stop(struct server *server)
{
    server->deadline.data = server;
    server->withdrawal_ms = listener_withdraw(&server->listener);
    if (server->withdrawal_ms > 0)
        uv_timer_start(&server->deadline, withdrawn_cb, server->withdrawal_ms, 0);
    else
        begin_end(server, STOP_MS);
}

void server_settle(struct server *server)
{
    listener_resume(&server->listener);
    if (!server->stopping || !server->listener.closed || server->closed ||
        server->connection_count > 0 || server->committer.messages > 0)
        return;
    server->closed = true;
    uv_close((uv_handle_t *)&server->ticker, NULL);
    uv_close((uv_handle_t *)&server->deadline, NULL);
    committer_stop(&server->committer);
    spool_close(&server->spool);
    release(server);
}
