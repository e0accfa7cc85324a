/* The state of the smarthost: see the header. */
#include "relay/smarthost.h"

static const struct {
    const char *name;
    bool fault;
    const char *advice;
} troubles[TROUBLE_COUNT] = {
    [TROUBLE_NONE] = {"none", false, ""},
    [TROUBLE_UNREACHABLE] = {"unreachable", false, ""},
    [TROUBLE_THROTTLED] = {"throttled", false, ""},
    [TROUBLE_PROTOCOL] = {"protocol", false, ""},
    [TROUBLE_NAME] =
        {"unknown_host", true,
         "the name in RELAY_HOST cannot be looked up: set it to the smarthost's name, or "
         "see to the name server"},
    [TROUBLE_NO_TLS] = {"no_tls", true,
                        "no TLS with this host: set RELAY_TLS and RELAY_PORT to what it offers "
                        "(starttls on 587, implicit on 465)"},
    [TROUBLE_CERTIFICATE] =
        {"certificate", true,
         "the certificate is not trusted: set RELAY_HOST to a name that stands in "
         "it, or RELAY_CA to the authority that signed it; or the host has to "
         "renew it"},
    [TROUBLE_CREDENTIALS] =
        {"credentials", true,
         "no login: set RELAY_USER, and RELAY_PASSWORD_FILE, RELAY_PASSWORD or "
         "RELAY_TOKEN_FILE, to what the host gave out and still takes, or none of "
         "them where it wants no login"},
};

bool trouble_is_fault(enum trouble trouble)
{
    return troubles[trouble].fault;
}

const char *trouble_name(enum trouble trouble)
{
    return troubles[trouble].name;
}

const char *trouble_advice(enum trouble trouble)
{
    return troubles[trouble].advice;
}

void smarthost_init(struct smarthost *smarthost, size_t connections)
{
    *smarthost = (struct smarthost){
        .connections = connections, .limit = connections, .granted = connections};
}

bool smarthost_troubled(struct smarthost *smarthost, enum trouble trouble, uint64_t now)
{
    uint64_t shortest =
        1000 * (uint64_t)(troubles[trouble].fault ? SMARTHOST_SHORTEST_FAULT : SMARTHOST_SHORTEST);
    bool news = smarthost->trouble != trouble;

    /* The first trouble of a pause decides about it. */
    if (smarthost->pause > 0 && now < smarthost->retry_at)
        return false;
    if (trouble == TROUBLE_THROTTLED) {
        smarthost->granted = smarthost->limit > 1 ? smarthost->limit / 2 : 1;
        smarthost->raised_at = now;
    }
    smarthost->trouble = trouble;
    smarthost->limit = 1;
    smarthost->pause *= 2;
    if (smarthost->pause < shortest)
        smarthost->pause = shortest;
    if (smarthost->pause > 1000 * (uint64_t)SMARTHOST_LONGEST)
        smarthost->pause = 1000 * (uint64_t)SMARTHOST_LONGEST;
    smarthost->retry_at = now + smarthost->pause;
    return news;
}

bool smarthost_succeeded(struct smarthost *smarthost, uint64_t began, uint64_t now)
{
    bool news = smarthost->trouble != TROUBLE_NONE;

    if (news && began < smarthost->retry_at)
        return false;
    if (smarthost->granted < smarthost->connections &&
        now - smarthost->raised_at >= 1000 * (uint64_t)SMARTHOST_RAISE) {
        smarthost->granted++;
        smarthost->raised_at = now;
    }
    smarthost->limit = smarthost->granted;
    smarthost->trouble = TROUBLE_NONE;
    smarthost->pause = 0;
    smarthost->retry_at = 0;
    return news;
}

void smarthost_hurry(struct smarthost *smarthost, uint64_t now)
{
    smarthost->pause = 0;
    if (smarthost->retry_at > now)
        smarthost->retry_at = now;
}

bool smarthost_is_open(const struct smarthost *smarthost, uint64_t now)
{
    return now >= smarthost->retry_at;
}

uint64_t smarthost_wait(const struct smarthost *smarthost, uint64_t now)
{
    return now >= smarthost->retry_at ? 0 : smarthost->retry_at - now;
}
