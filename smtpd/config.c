/* The table of settings, and the checks that need more than a range. */
#include "smtpd/config.h"

#include "queue/path.h"
#include "smtpd/networks.h"
#include "smtpd/tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define NUMBER(variable, member, low, high, standard, text)                                        \
    {                                                                                              \
        .name = (variable), .type = SETTING_NUMBER, .fallback = (standard), .minimum = (low),      \
        .maximum = (high), .meaning = (text), .offset = offsetof(struct config, member)            \
    }

#define FLAG(variable, member, text)                                                               \
    {                                                                                              \
        .name = (variable), .type = SETTING_FLAG, .fallback = "0", .meaning = (text),              \
        .offset = offsetof(struct config, member)                                                  \
    }

#define LIST(variable, member, standard, text)                                                     \
    {                                                                                              \
        .name = (variable), .type = SETTING_LIST, .fallback = (standard), .meaning = (text),       \
        .offset = offsetof(struct config, member)                                                  \
    }

static const char *const confine_choices[] = {
    [CONFINE_TRY] = "try", [CONFINE_REQUIRE] = "require", [CONFINE_OFF] = "off", NULL};

const struct setting config_settings[] = {
    SETTINGS_COMMON(struct config, common),
    LIST("SMTPD_LISTEN", listen, "127.0.0.1:2525",
         "where to listen: host:port (address or name), [v6]:port; LISTEN_FDS comes before it"),
    NUMBER("PORT", port, 1, 65535, NULL, "shorthand: listen on this port on every address"),
    SITE_SETTINGS(struct config, site),
    LIST("SMTPD_RELAY_CLIENTS", relay_clients, "",
         "networks (CIDR) whose mail to domains not stored here is relayed, and nobody else's"),
    LIST("SMTPD_DISCARD_DOMAINS", discard_domains, "",
         "mail to these domains is answered 250 and dropped"),
    LIST("SMTPD_REJECT_SENDERS", reject_senders, "", "sender domains refused at MAIL"),
    LIST("SMTPD_REJECT_RECIPIENTS", reject_recipients, "",
         "addresses refused at RCPT: user@domain, or user@ in any domain"),
    LIST("SMTPD_PROXY_CLIENTS", proxy_clients, "",
         "networks (CIDR) of load balancers, which speak PROXY protocol v1 or v2"),
    NUMBER("SMTPD_MAX_SIZE", max_size, 1, 268435456, "26214400", "bytes of one message"),
    NUMBER("SMTPD_MAX_RECIPIENTS", max_recipients, 1, 10000, "100", "recipients of one message"),
    NUMBER("SMTPD_MAX_CONNECTIONS", max_connections, 1, 1000000, "10000", "connections at once"),
    NUMBER("SMTPD_MAX_CONNECTIONS_PER_CLIENT", max_connections_per_client, 1, 1000000, "100",
           "connections at once from an IPv4 address or an IPv6 /64"),
    NUMBER("SMTPD_MAX_ERRORS", max_errors, 1, 1000000, "20",
           "bad or refused commands in one connection before 421"),
    NUMBER("SMTPD_MAX_MESSAGES", max_messages, 1, 999999, "10000", "messages of one connection"),
    NUMBER("SMTPD_MAX_JUNK", max_junk, 1, 1000000000, "1000",
           "NOOP, RSET, VRFY, 4xx and the like between two messages before 421"),
    NUMBER("SMTPD_ERROR_DELAY", error_delay, 0, 60, "1",
           "seconds that each reply is delayed after half of SMTPD_MAX_ERRORS"),
    NUMBER("SMTPD_TIMEOUT", timeout, 1, 86400, "300",
           "seconds in which a command line must end, and data make progress"),
    NUMBER("SMTPD_MIN_RATE", min_rate, 0, 1000000, "100",
           "bytes a second of data, averaged over each SMTPD_TIMEOUT"),
    NUMBER("SMTPD_MAX_TIME", max_time, 1, 604800, "3600", "seconds for the data of one message"),
    NUMBER("SMTPD_PREGREET", pregreet, 0, 60, "0",
           "seconds before the greeting; above 0, who speaks out of turn is refused"),
    NUMBER("SMTPD_MIN_FREE", min_free, 0, LONG_MAX, "67108864",
           "bytes that must stay free on the spool's file system"),
    {.name = "SMTPD_TLS_CERT",
     .type = SETTING_TEXT,
     .meaning =
         "PEM file of the certificate and its chain; with SMTPD_TLS_KEY: STARTTLS is offered",
     .offset = offsetof(struct config, tls_cert)},
    {.name = "SMTPD_TLS_KEY",
     .type = SETTING_TEXT,
     .meaning = "PEM file of the certificate's private key",
     .offset = offsetof(struct config, tls_key)},
    FLAG("SMTPD_REQUIRE_TLS", require_tls,
         "1: in the clear only EHLO, NOOP, STARTTLS and QUIT are answered"),
    FLAG("SMTPD_REUSEPORT", reuseport, "1: several smtpd processes share the port"),
    {.name = "SMTPD_CONFINE",
     .type = SETTING_CHOICE,
     .fallback = "try",
     .choices = confine_choices,
     .meaning = "require: do not start where Landlock or seccomp is missing; off: use neither",
     .offset = offsetof(struct config, confine)},
};

const size_t config_settings_count = sizeof config_settings / sizeof config_settings[0];

static int refuse(const char *name, const char *expected)
{
    return settings_refuse(config_settings, config_settings_count, name, expected);
}

static bool parse_port(const char *text, in_port_t *port)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || number > 65535)
        return false;
    *port = htons((uint16_t)number);
    return true;
}

bool config_parse_address(const char *text, struct sockaddr_storage *address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN];
    size_t length;

    *address = (struct sockaddr_storage){0};
    if (colon == NULL)
        return false;
    length = (size_t)(colon - text);
    if (length >= 2 && text[0] == '[' && colon[-1] == ']') {
        address->ss_family = AF_INET6;
        text++;
        length -= 2;
    } else {
        address->ss_family = AF_INET;
    }
    if (length >= sizeof host)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (address->ss_family == AF_INET6)
        return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 &&
               parse_port(colon + 1, &v6->sin6_port);
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1 && parse_port(colon + 1, &v4->sin_port);
}

/* Digits and dots that are no address are a typing error, and not what inet_aton(3) makes of it. */
static bool is_name(const char *host)
{
    return path_is_domain(slice_of(host)) && host[strspn(host, "0123456789.")] != '\0';
}

struct addrinfo *config_resolve(const char *text)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(text, ':');
    struct addrinfo *found;
    char host[NI_MAXHOST];
    in_port_t port;

    if (colon == NULL || !parse_port(colon + 1, &port) || colon - text >= (ptrdiff_t)sizeof host)
        return NULL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    return is_name(host) && getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

static bool is_place(const char *text)
{
    struct sockaddr_storage address;
    struct addrinfo *found;

    if (config_parse_address(text, &address))
        return true;
    found = config_resolve(text);
    if (found != NULL)
        freeaddrinfo(found);
    return found != NULL;
}

static int check_listen(const struct config *config)
{
    bool good = config->listen.count > 0;

    for (size_t i = 0; i < config->listen.count; i++)
        good = good && is_place(config->listen.items[i]);
    return good ? EX_OK
                : refuse("SMTPD_LISTEN", "a list of address:port, [v6 address]:port, or name:port "
                                         "where the name has an address");
}

static bool is_mailbox_entry(const char *item)
{
    const char *at = strrchr(item, '@');

    if (at == NULL || at == item)
        return false;
    return at[1] == '\0' || path_is_domain(slice_of(at + 1)) || path_is_literal(slice_of(at + 1));
}

static bool is_network_entry(const char *item)
{
    struct network network;

    return networks_parse_entry(item, &network);
}

#define MAILBOXES "a list of user@domain, or user@ for any domain"
#define NETWORKS                                                                                   \
    "a list of addresses and networks (192.0.2.0/24, 2001:db8::/32) with no bit set behind the "   \
    "prefix"

/* The lists that may be read again, and what may stand in them. */
static const struct {
    const char *name;
    size_t offset;
    bool (*valid)(const char *item);
    const char *expected;
} lists[] = {
    {"SMTPD_DISCARD_DOMAINS", offsetof(struct config, discard_domains), site_is_domain_entry,
     SITE_DOMAINS_EXPECTED},
    {"SMTPD_REJECT_SENDERS", offsetof(struct config, reject_senders), site_is_domain_entry,
     SITE_DOMAINS_EXPECTED},
    {"SMTPD_REJECT_RECIPIENTS", offsetof(struct config, reject_recipients), is_mailbox_entry,
     MAILBOXES},
    {"SMTPD_RELAY_CLIENTS", offsetof(struct config, relay_clients), is_network_entry, NETWORKS},
    {"SMTPD_PROXY_CLIENTS", offsetof(struct config, proxy_clients), is_network_entry, NETWORKS},
};

enum { LISTS = sizeof lists / sizeof lists[0] };

static struct setting_list *list_at(struct config *config, size_t which)
{
    return (struct setting_list *)(void *)((char *)config + lists[which].offset);
}

static int check_lists(struct config *config)
{
    int code = EX_OK;

    for (size_t which = 0; which < LISTS; which++) {
        const struct setting_list *list = list_at(config, which);
        for (size_t i = 0; i < list->count; i++) {
            if (lists[which].valid(list->items[i]))
                continue;
            code = refuse(lists[which].name, lists[which].expected);
            break;
        }
    }
    return code;
}

/* Whether the files can be used is seen by using them. */
static int check_pair(const struct config *config)
{
    char reason[TLS_REASON_SIZE], expected[TLS_REASON_SIZE + 40];
    struct tls_context *context = tls_context_load(config->tls_cert, config->tls_key, reason);

    tls_context_free(context);
    if (context != NULL)
        return EX_OK;
    snprintf(expected, sizeof expected, "a PEM file that can be used; %s", reason);
    return refuse(strncmp(reason, "key ", 4) == 0 ? "SMTPD_TLS_KEY" : "SMTPD_TLS_CERT", expected);
}

static int check_tls(const struct config *config)
{
    if (config->tls_cert != NULL && config->tls_key == NULL)
        return refuse("SMTPD_TLS_CERT", "set together with SMTPD_TLS_KEY, or not at all");
    if (config->tls_key != NULL && config->tls_cert == NULL)
        return refuse("SMTPD_TLS_KEY", "set together with SMTPD_TLS_CERT, or not at all");
    if (config->require_tls && config->tls_cert == NULL)
        return refuse("SMTPD_REQUIRE_TLS", "0 unless SMTPD_TLS_CERT and SMTPD_TLS_KEY are set");
    return config->tls_cert != NULL ? check_pair(config) : EX_OK;
}

int config_check(void *data)
{
    struct config *config = data;
    const int codes[] = {check_listen(config),
                         site_check(&config->site, config_settings, config_settings_count),
                         check_lists(config), check_tls(config)};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] != EX_OK)
            return codes[i];
    return EX_OK;
}

void config_reread(struct config *config)
{
    site_reread(&config->site);
    for (size_t which = 0; which < LISTS; which++)
        settings_list_reread(list_at(config, which), lists[which].name, lists[which].valid);
}
