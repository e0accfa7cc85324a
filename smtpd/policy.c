/* Whose mail is taken: see the header. */
#include "smtpd/policy.h"

#include <string.h>

enum policy_client policy_judge_client(const struct policy *policy, const struct address *address)
{
    if (address == NULL)
        return POLICY_STRANGER;
    if (policy->relay_clients_broken)
        return POLICY_CLIENT_UNKNOWN;
    return networks_contain(&policy->relay_clients, address) ? POLICY_RELAY_CLIENT
                                                             : POLICY_STRANGER;
}

enum policy_verdict policy_judge_sender(const struct policy *policy, const struct path *sender)
{
    if (sender->mailbox.length == 0)
        return POLICY_ACCEPT;
    if (policy->senders_broken)
        return POLICY_UNKNOWN;
    return names_contain_domain(&policy->reject_senders, sender->domain) ? POLICY_REFUSE_DOMAIN
                                                                         : POLICY_ACCEPT;
}

/* A quoted local part says the same as without quotes (RFC 5321, section 4.1.2): whoever is refused
 * is refused in both spellings. */
static struct slice unquote(struct slice local, char plain[static PATH_LOCAL_MAX])
{
    size_t length = 0;

    if (local.start[0] != '"')
        return local;
    for (size_t i = 1; i + 1 < local.length; i++) {
        if (local.start[i] == '\\')
            i++;
        plain[length++] = local.start[i];
    }
    return slice_make(plain, length);
}

static bool mailbox_rejected(const struct policy *policy, const struct path *recipient)
{
    char plain[PATH_LOCAL_MAX], entry[PATH_LOCAL_MAX + 1 + PATH_DOMAIN_MAX];
    struct slice local = unquote(recipient->local, plain);
    size_t length = local.length;

    if (policy->reject_recipients.count == 0)
        return false;
    memcpy(entry, local.start, length);
    entry[length++] = '@';
    if (names_contain(&policy->reject_recipients, slice_make(entry, length)))
        return true;
    memcpy(entry + length, recipient->domain.start, recipient->domain.length);
    return names_contain(&policy->reject_recipients,
                         slice_make(entry, length + recipient->domain.length));
}

/* Of a domain that may be relayed to, or (SITE_UNKNOWN) that cannot be told. A stranger's mail to
 * what is not stored is refused whatever the list of other domains says. */
static enum policy_verdict judge_relayed(const struct policy *policy, enum policy_client client,
                                         enum site_route route)
{
    if (policy->site.domains_broken)
        return POLICY_UNKNOWN;
    switch (client) {
    case POLICY_RELAY_CLIENT:
        return route == SITE_RELAY ? POLICY_RELAY : POLICY_UNKNOWN;
    case POLICY_CLIENT_UNKNOWN:
        return POLICY_UNKNOWN;
    case POLICY_STRANGER:
        break;
    }
    return POLICY_REFUSE_DOMAIN;
}

static enum policy_verdict judge_domain(const struct policy *policy, enum policy_client client,
                                        struct slice domain)
{
    enum site_route route = site_route(&policy->site, domain);

    switch (route) {
    case SITE_STORE:
        return POLICY_ACCEPT;
    case SITE_RELAY:
    case SITE_UNKNOWN:
        return judge_relayed(policy, client, route);
    case SITE_NOWHERE:
        break;
    }
    return POLICY_REFUSE_DOMAIN;
}

enum policy_verdict policy_judge_recipient(const struct policy *policy, enum policy_client client,
                                           const struct path *recipient)
{
    enum policy_verdict verdict;
    bool postmaster = path_is_postmaster(recipient);

    if (postmaster && (recipient->domain.length == 0 ||
                       slice_equals_nocase(recipient->domain, slice_of(policy->hostname))))
        return POLICY_ACCEPT;
    if (policy->recipients_broken)
        return POLICY_UNKNOWN;
    if (names_contain_domain(&policy->discard_domains, recipient->domain))
        return POLICY_DISCARD;
    verdict = judge_domain(policy, client, recipient->domain);
    if ((verdict == POLICY_ACCEPT || verdict == POLICY_RELAY) && !postmaster &&
        mailbox_rejected(policy, recipient))
        return POLICY_REFUSE_MAILBOX;
    return verdict;
}

void policy_free(struct policy *policy)
{
    site_free(&policy->site);
    networks_free(&policy->relay_clients);
    names_free(&policy->discard_domains);
    names_free(&policy->reject_senders);
    names_free(&policy->reject_recipients);
}
