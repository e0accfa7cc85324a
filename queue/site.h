/* What this site is: its name, the domains whose mail it stores, and those that it relays to. The
 * programs that choose a queue for a recipient read the same settings and must decide alike: smtpd
 * for what comes in, relay for its notifications. Pure, but for what reads files. */
#ifndef QUEUE_SITE_H
#define QUEUE_SITE_H

#include "common/names.h"
#include "common/settings.h"
#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct site_settings {
    const char *hostname;
    struct setting_list domains;
    struct setting_list relay_domains;
};

/* The rows for it in a program's table: `config` is the program's struct, `member` the struct
 * site_settings in it. */
#define SITE_SETTINGS(config, member)                                                              \
    {.name = "SMTPD_HOSTNAME",                                                                     \
     .type = SETTING_TEXT,                                                                         \
     .meaning = "the name that we go by; the host's name when unset",                              \
     .offset = offsetof(config, member.hostname)},                                                 \
        {.name = "SMTPD_DOMAINS",                                                                  \
         .type = SETTING_LIST,                                                                     \
         .fallback = "*",                                                                          \
         .meaning = "domains stored here: *, or a list; .example.org for every subdomain",         \
         .offset = offsetof(config, member.domains)},                                              \
    {                                                                                              \
        .name = "SMTPD_RELAY_DOMAINS", .type = SETTING_LIST, .fallback = "*",                      \
        .meaning = "domains that may be relayed to, of those not stored here",                     \
        .offset = offsetof(config, member.relay_domains)                                           \
    }

/* What may stand in a list of domains: `*`, a domain, `.domain`, or an address literal. */
#define SITE_DOMAINS_EXPECTED "a list of domains, .domain for all below it, or *"
bool site_is_domain_entry(const char *item);

/* Fills in the host's name, and checks all. Returns 0, or EX_CONFIG after saying of each in the words
 * of `table` why it is wrong. */
int site_check(struct site_settings *settings, const struct setting *table, size_t count);

/* Reads the lists' files again (settings_list_reread). */
void site_reread(struct site_settings *settings);

struct site {
    struct names domains;
    struct names relay_domains;
    bool domains_broken; /* the list could not be read again: nothing is judged by what it was */
    bool relay_domains_broken;
};

/* Builds the sets from settings that were checked; false, and `site` is as it was, when memory is
 * out. What was in it before is freed. */
bool site_load(struct site *site, const struct site_settings *settings);
void site_free(struct site *site);

enum site_route {
    SITE_NOWHERE,
    SITE_STORE,  /* stored here */
    SITE_RELAY,  /* not stored, and may be relayed to: whether for everyone is not said here */
    SITE_UNKNOWN /* cannot tell now */
};

/* Where mail for a domain goes. */
enum site_route site_route(const struct site *site, struct slice domain);

#endif
