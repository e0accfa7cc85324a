/* The site: see the header. */
#include "queue/site.h"

#include "common/ascii.h"
#include "queue/path.h"

#include <sys/utsname.h>
#include <sysexits.h>

bool site_is_domain_entry(const char *item)
{
    struct slice entry = slice_of(item);

    if (slice_equals(entry, slice_of("*")) || path_is_literal(entry))
        return true;
    return path_is_domain(entry.start[0] == '.' ? slice_from(entry, 1) : entry);
}

/* A domain of an address may be UTF-8. The name that we go by may not: it stands in the greeting,
 * before any client could have asked for more than ASCII (RFC 6531, section 3.7.4), and in the EHLO
 * to a server that has not yet offered more. */
static bool is_hostname(struct slice name)
{
    for (size_t i = 0; i < name.length; i++)
        if (!ascii_is_graph(name.start[i]))
            return false;
    return path_is_domain(name) || path_is_literal(name);
}

static bool check_hostname(struct site_settings *settings)
{
    static struct utsname host;

    if (settings->hostname == NULL && uname(&host) == 0)
        settings->hostname = host.nodename;
    return settings->hostname != NULL && is_hostname(slice_of(settings->hostname));
}

static bool check_domains(const struct setting_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!site_is_domain_entry(list->items[i]))
            return false;
    return true;
}

int site_check(struct site_settings *settings, const struct setting *table, size_t count)
{
    int code = EX_OK;

    if (!check_hostname(settings))
        code = settings_refuse(table, count, "SMTPD_HOSTNAME",
                               "a domain name in ASCII, or an address in brackets (when unset, the "
                               "host's name must be one)");
    if (!check_domains(&settings->domains))
        code = settings_refuse(table, count, "SMTPD_DOMAINS", SITE_DOMAINS_EXPECTED);
    if (!check_domains(&settings->relay_domains))
        code = settings_refuse(table, count, "SMTPD_RELAY_DOMAINS", SITE_DOMAINS_EXPECTED);
    return code;
}

void site_reread(struct site_settings *settings)
{
    settings_list_reread(&settings->domains, "SMTPD_DOMAINS", site_is_domain_entry);
    settings_list_reread(&settings->relay_domains, "SMTPD_RELAY_DOMAINS", site_is_domain_entry);
}

bool site_load(struct site *site, const struct site_settings *settings)
{
    const struct setting_list *domains = &settings->domains, *relayed = &settings->relay_domains;
    struct site fresh = {.domains_broken = domains->broken,
                         .relay_domains_broken = relayed->broken};
    bool loaded = names_build(&fresh.domains, domains->items, domains->count) &&
                  names_build(&fresh.relay_domains, relayed->items, relayed->count);

    site_free(loaded ? site : &fresh);
    if (loaded)
        *site = fresh;
    return loaded;
}

void site_free(struct site *site)
{
    names_free(&site->domains);
    names_free(&site->relay_domains);
}

enum site_route site_route(const struct site *site, struct slice domain)
{
    if (site->domains_broken)
        return SITE_UNKNOWN;
    if (names_contain_domain(&site->domains, domain))
        return SITE_STORE;
    if (site->relay_domains_broken)
        return SITE_UNKNOWN;
    return names_contain_domain(&site->relay_domains, domain) ? SITE_RELAY : SITE_NOWHERE;
}
