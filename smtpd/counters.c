/* The table of smtpd's metrics: see the header. */
#include "smtpd/counters.h"

#define COUNTER(metric, text, help_text)                                                           \
    {                                                                                              \
        .name = "mayfly_smtpd_" metric, .labels = (text), .help = (help_text),                     \
        .type = METRIC_COUNTER                                                                     \
    }
#define REPLIES(class) COUNTER("replies_total", "class=\"" class "\"", "Replies given.")
#define REFUSED(reason)                                                                            \
    COUNTER("refused_total", "reason=\"" reason "\"", "Commands, messages and connections refused.")
#define RECIPIENTS(queue)                                                                          \
    COUNTER("recipients_total", "queue=\"" queue "\"", "Recipients of the messages accepted.")
#define TLS(result)                                                                                \
    COUNTER("tls_total", "result=\"" result "\"", "STARTTLS, by how the handshake ended.")
#define COMMAND(verb, class) (COUNTER_COMMANDS + (verb)*CLASS_COUNT + (class))
#define COMMANDS(verb, text, success)                                                              \
    [COMMAND(verb, CLASS_SUCCESS)] = ANSWERED(text, success),                                      \
                   [COMMAND(verb, CLASS_4XX)] = ANSWERED(text, "4xx"),                             \
                   [COMMAND(verb, CLASS_5XX)] = ANSWERED(text, "5xx")
#define ANSWERED(verb, class)                                                                      \
    COUNTER("commands_total", "verb=\"" verb "\",class=\"" class "\"",                             \
            "Commands answered; content is the end of a message.")
#define GAUGE(metric, help_text)                                                                   \
    {                                                                                              \
        .name = "mayfly_smtpd_" metric, .help = (help_text), .type = METRIC_GAUGE                  \
    }
#define HISTOGRAM(metric, limits, help_text)                                                       \
    {                                                                                              \
        .name = "mayfly_smtpd_" metric, .help = (help_text), .type = METRIC_HISTOGRAM,             \
        .bounds = (limits)                                                                         \
    }

static struct metric metrics[COUNTER_COUNT] = {
    [COUNTER_CONNECTIONS] = COUNTER("connections_total", NULL, "Connections taken."),
    [COUNTER_CONNECTIONS_OPEN] = GAUGE("connections", "Connections that are open."),
    [COUNTER_CONNECTIONS_LIMIT] = GAUGE("connections_limit", "Connections that there may be."),
    [COUNTER_PRESSURE] = GAUGE("pressure", "1 while the limits are tightened."),
    [COUNTER_EARLY_TALKERS] =
        COUNTER("early_talkers_total", NULL, "Connections that spoke before the greeting."),
    [COUNTER_EARLY_PIPELINING] =
        COUNTER("early_pipelining_total", NULL, "Connections that sent commands out of turn."),
    [COUNTER_PROXY_REFUSED] =
        COUNTER("proxy_refused_total", NULL, "Connections closed for their PROXY protocol header."),
    [COUNTER_TLS_BEGUN] = TLS("ok"),
    [COUNTER_TLS_FAILED] = TLS("failed"),
    [COUNTER_TLS_BROKEN] = COUNTER("tls_broken_total", NULL,
                                   "Connections lost to a violation of TLS after its begin."),
    [COUNTER_TLS_EXPIRY] = GAUGE("tls_certificate_expiry_timestamp_seconds",
                                 "When the certificate expires; 0 without one."),
    COMMANDS(VERB_HELO, "helo", "2xx"),
    COMMANDS(VERB_EHLO, "ehlo", "2xx"),
    COMMANDS(VERB_STARTTLS, "starttls", "2xx"),
    COMMANDS(VERB_MAIL, "mail", "2xx"),
    COMMANDS(VERB_RCPT, "rcpt", "2xx"),
    COMMANDS(VERB_DATA, "data", "3xx"),
    COMMANDS(VERB_BDAT, "bdat", "2xx"),
    COMMANDS(VERB_CONTENT, "content", "2xx"),
    COMMANDS(VERB_RSET, "rset", "2xx"),
    COMMANDS(VERB_NOOP, "noop", "2xx"),
    COMMANDS(VERB_HELP, "help", "2xx"),
    COMMANDS(VERB_VRFY, "vrfy", "2xx"),
    COMMANDS(VERB_QUIT, "quit", "2xx"),
    COMMANDS(VERB_OTHER, "other", "2xx"),
    [COUNTER_REPLIES_2XX] = REPLIES("2xx"),
    [COUNTER_REPLIES_3XX] = REPLIES("3xx"),
    [COUNTER_REPLIES_4XX] = REPLIES("4xx"),
    [COUNTER_REPLIES_5XX] = REPLIES("5xx"),
    [COUNTER_MESSAGES] = COUNTER("messages_total", NULL, "Messages accepted and durable."),
    [COUNTER_BYTES] = COUNTER("bytes_total", NULL, "Octets of the messages accepted."),
    [COUNTER_STORED] = RECIPIENTS("store"),
    [COUNTER_RELAYED] = RECIPIENTS("relay"),
    [COUNTER_DISCARDED] = COUNTER("discarded_total", NULL, "Messages answered 250 and dropped."),
    [COUNTER_SPOOL_FREE] =
        GAUGE("spool_free_bytes", "Bytes free on the spool, of its queues where there is least."),
    [COUNTER_SPOOL_MIN_FREE] =
        GAUGE("spool_min_free_bytes", "Bytes that must stay free: with fewer all mail is put off."),
    [COUNTER_COMMIT_GROUP] = HISTOGRAM("commit_messages", metric_group, "Messages of a commit."),
    [COUNTER_COMMIT_SECONDS] =
        HISTOGRAM("commit_seconds", metric_seconds, "From a commit's beginning to its end."),
    [COUNTER_REFUSED_SHUTDOWN] = REFUSED("shutdown"),
    [COUNTER_REFUSED_TIMEOUT] = REFUSED("timeout"),
    [COUNTER_REFUSED_TOO_SLOW] = REFUSED("too_slow"),
    [COUNTER_REFUSED_SERVER_FULL] = REFUSED("server_full"),
    [COUNTER_REFUSED_CLIENT_FULL] = REFUSED("client_full"),
    [COUNTER_REFUSED_TOO_MANY_ERRORS] = REFUSED("too_many_errors"),
    [COUNTER_REFUSED_TOO_MUCH_JUNK] = REFUSED("too_much_junk"),
    [COUNTER_REFUSED_TOO_MANY_MESSAGES] = REFUSED("too_many_messages"),
    [COUNTER_REFUSED_FOREIGN] = REFUSED("foreign"),
    [COUNTER_REFUSED_LOCAL_ERROR] = REFUSED("local_error"),
    [COUNTER_REFUSED_POLICY_ERROR] = REFUSED("policy_error"),
    [COUNTER_REFUSED_NO_SPACE] = REFUSED("no_space"),
    [COUNTER_REFUSED_TOO_MANY_RECIPIENTS] = REFUSED("too_many_recipients"),
    [COUNTER_REFUSED_BAD_SENDER] = REFUSED("bad_sender"),
    [COUNTER_REFUSED_BAD_RECIPIENT] = REFUSED("bad_recipient"),
    [COUNTER_REFUSED_SENDER_REFUSED] = REFUSED("sender_refused"),
    [COUNTER_REFUSED_DOMAIN_REFUSED] = REFUSED("domain_refused"),
    [COUNTER_REFUSED_RECIPIENT_REFUSED] = REFUSED("recipient_refused"),
    [COUNTER_REFUSED_TOO_BIG] = REFUSED("too_big"),
    [COUNTER_REFUSED_TOO_MANY_HOPS] = REFUSED("too_many_hops"),
    [COUNTER_REFUSED_TLS_REQUIRED] = REFUSED("tls_required"),
    [COUNTER_REFUSED_EARLY_TALK] = REFUSED("early_talk"),
    [COUNTER_REFUSED_OUT_OF_TURN] = REFUSED("out_of_turn"),
};

const struct metric_set counters_set = {.metrics = metrics, .count = COUNTER_COUNT};

/* Where a reply is counted as a refusal; 0 for those that refuse nothing worth a series. */
static const enum counter refusals[REPLY_COUNT] = {
    [REPLY_SHUTDOWN] = COUNTER_REFUSED_SHUTDOWN,
    [REPLY_TIMEOUT] = COUNTER_REFUSED_TIMEOUT,
    [REPLY_TOO_SLOW] = COUNTER_REFUSED_TOO_SLOW,
    [REPLY_SERVER_FULL] = COUNTER_REFUSED_SERVER_FULL,
    [REPLY_CLIENT_FULL] = COUNTER_REFUSED_CLIENT_FULL,
    [REPLY_TOO_MANY_ERRORS] = COUNTER_REFUSED_TOO_MANY_ERRORS,
    [REPLY_TOO_MUCH_JUNK] = COUNTER_REFUSED_TOO_MUCH_JUNK,
    [REPLY_TOO_MANY_MESSAGES] = COUNTER_REFUSED_TOO_MANY_MESSAGES,
    [REPLY_FOREIGN] = COUNTER_REFUSED_FOREIGN,
    [REPLY_LOCAL_ERROR] = COUNTER_REFUSED_LOCAL_ERROR,
    [REPLY_POLICY_ERROR] = COUNTER_REFUSED_POLICY_ERROR,
    [REPLY_NO_SPACE] = COUNTER_REFUSED_NO_SPACE,
    [REPLY_TOO_MANY_RECIPIENTS] = COUNTER_REFUSED_TOO_MANY_RECIPIENTS,
    [REPLY_BAD_SENDER] = COUNTER_REFUSED_BAD_SENDER,
    [REPLY_BAD_RECIPIENT] = COUNTER_REFUSED_BAD_RECIPIENT,
    [REPLY_SENDER_REFUSED] = COUNTER_REFUSED_SENDER_REFUSED,
    [REPLY_DOMAIN_REFUSED] = COUNTER_REFUSED_DOMAIN_REFUSED,
    [REPLY_RECIPIENT_REFUSED] = COUNTER_REFUSED_RECIPIENT_REFUSED,
    [REPLY_TOO_BIG] = COUNTER_REFUSED_TOO_BIG,
    [REPLY_TOO_MANY_HOPS] = COUNTER_REFUSED_TOO_MANY_HOPS,
    [REPLY_TLS_REQUIRED] = COUNTER_REFUSED_TLS_REQUIRED,
    [REPLY_EARLY_TALK] = COUNTER_REFUSED_EARLY_TALK,
    [REPLY_OUT_OF_TURN] = COUNTER_REFUSED_OUT_OF_TURN,
};

/* What an event is counted as; 0 for those that are no command and end none. */
#define COUNTED(verb) (VERB_##verb + 1)
static const unsigned char verbs[EVENT_COUNT] = {
    [EVENT_HELO] = COUNTED(HELO),
    [EVENT_EHLO] = COUNTED(EHLO),
    [EVENT_STARTTLS] = COUNTED(STARTTLS),
    [EVENT_MAIL] = COUNTED(MAIL),
    [EVENT_RCPT] = COUNTED(RCPT),
    [EVENT_DATA] = COUNTED(DATA),
    [EVENT_BDAT] = COUNTED(BDAT),
    [EVENT_BAD_CHUNK] = COUNTED(BDAT),
    [EVENT_CHUNK_SKIPPED] = COUNTED(BDAT),
    [EVENT_CHUNK_END] = COUNTED(BDAT),
    [EVENT_CONTENT_END] = COUNTED(CONTENT),
    [EVENT_COMMITTED] = COUNTED(CONTENT),
    [EVENT_COMMIT_FAILED] = COUNTED(CONTENT),
    [EVENT_RSET] = COUNTED(RSET),
    [EVENT_NOOP] = COUNTED(NOOP),
    [EVENT_HELP] = COUNTED(HELP),
    [EVENT_VRFY] = COUNTED(VRFY),
    [EVENT_QUIT] = COUNTED(QUIT),
    [EVENT_UNIMPLEMENTED] = COUNTED(OTHER),
    [EVENT_FOREIGN] = COUNTED(OTHER),
    [EVENT_UNKNOWN] = COUNTED(OTHER),
    [EVENT_MALFORMED] = COUNTED(OTHER),
    [EVENT_MISUSED] = COUNTED(OTHER),
    [EVENT_BAD_LINE_END] = COUNTED(OTHER),
    [EVENT_LINE_TOO_LONG] = COUNTED(OTHER),
    [EVENT_OUT_OF_TURN] = COUNTED(OTHER),
    [EVENT_SECOND_HEADER] = COUNTED(OTHER),
};

void counters_add(enum counter counter, double amount)
{
    metric_add(&metrics[counter], amount);
}

void counters_set_value(enum counter counter, double value)
{
    metric_set_value(&metrics[counter], value);
}

void counters_observe(enum counter counter, double value)
{
    metric_observe(&metrics[counter], value);
}

static void count_command(int verb, unsigned class)
{
    int row = class < 4 ? CLASS_SUCCESS : class == 4 ? CLASS_4XX : CLASS_5XX;

    counters_add((enum counter)COMMAND(verb, row), 1);
}

void counters_reply(enum session_event event, enum reply reply)
{
    unsigned class = reply_code(reply) / 100;

    if (class >= 2 && class <= 5)
        counters_add((enum counter)(COUNTER_REPLIES_2XX + (int)class - 2), 1);
    if (verbs[event] != 0)
        count_command(verbs[event] - 1, class);
    if (refusals[reply] != 0)
        counters_add(refusals[reply], 1);
}
