/* Settings: see the header. */
#include "session_settings.h"

#include <string.h>

char settings_discarded[] = "discard.example";

static char address[] = "127.0.0.1:0", every[] = "*", bad[] = "bad.example",
            nobody[] = "nobody@t.example", balancers[] = "192.0.2.0/24", ours[] = "t.example",
            first_net[] = "192.0.2.0/24", second_net[] = "2001:db8:0:1::/64";
static char *addresses[] = {address}, *domains[] = {every},
            *discard_domains[] = {settings_discarded}, *reject_senders[] = {bad},
            *reject_recipients[] = {nobody}, *proxy_clients[] = {balancers},
            *own_domains[] = {ours}, *relay_clients[] = {first_net, second_net};

bool settings_relay_for(const struct address *client)
{
    static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2},
                         second[] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1};

    return memcmp(client->bytes, mapped, sizeof mapped) == 0 ||
           memcmp(client->bytes, second, sizeof second) == 0;
}

/* Limits are low, so that an input of a few hundred octets comes to them. */
static const struct config usual = {
    .listen = {.items = addresses, .count = 1},
    .port = -1,
    .site.hostname = "mx.example",
    .site.domains = {.items = domains, .count = 1},
    .site.relay_domains = {.items = domains, .count = 1},
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

void settings_choose(struct config *config, unsigned choice, const struct settings_paths *paths)
{
    *config = usual;
    config->common.spool = paths->spool;
    switch (choice) {
    case 1: /* a busy server, and one of several */
        config->reuseport = true;
        config->max_connections = 8;
        config->max_connections_per_client = 8;
        break;
    case 2: /* a suspicious one */
        config->pregreet = 2;
        config->min_rate = 0;
        break;
    case 3: /* one that takes all it is given */
        config->max_errors = config->max_junk = config->max_messages = config->max_recipients = 40;
        config->error_delay = 0;
        break;
    case 4: /* one behind load balancers: the first two clients are */
        config->proxy_clients = (struct setting_list){.items = proxy_clients, .count = 1};
        break;
    case 5: /* one that offers TLS, and one that demands it: its clients know only TLS 1.2 */
    case 6:
        config->require_tls = choice == 6;
        config->tls_cert = paths->certificate;
        config->tls_key = paths->key;
        break;
    case 7: /* one that relays for the first four clients, and one whose load balancers would be */
    case 8: /* among them: the first two clients */
        config->site.domains = (struct setting_list){.items = own_domains, .count = 1};
        config->relay_clients = (struct setting_list){.items = relay_clients, .count = 2};
        if (choice == 8)
            config->proxy_clients = (struct setting_list){.items = proxy_clients, .count = 1};
        break;
    default:
        break;
    }
}
