/* Whose mail is taken: see the header. */
#include "smtpd/policy.h"

#include <string.h>

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

enum policy_verdict policy_judge_recipient(const struct policy *policy,
                                           const struct path *recipient)
{
    bool postmaster = path_is_postmaster(recipient);

    if (postmaster && (recipient->domain.length == 0 ||
                       slice_equals_nocase(recipient->domain, slice_of(policy->hostname))))
        return POLICY_ACCEPT;
    if (policy->recipients_broken)
        return POLICY_UNKNOWN;
    if (names_contain_domain(&policy->discard_domains, recipient->domain))
        return POLICY_DISCARD;
    switch (site_route(&policy->site, recipient->domain)) {
    case SITE_STORE:
        break;
    case SITE_UNKNOWN:
        return POLICY_UNKNOWN;
    case SITE_RELAY:
    case SITE_NOWHERE:
        return POLICY_REFUSE_DOMAIN;
    }
    if (postmaster || !mailbox_rejected(policy, recipient))
        return POLICY_ACCEPT;
    return POLICY_REFUSE_MAILBOX;
}

void policy_free(struct policy *policy)
{
    site_free(&policy->site);
    names_free(&policy->discard_domains);
    names_free(&policy->reject_senders);
    names_free(&policy->reject_recipients);
}
