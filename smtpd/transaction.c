/* Mail transactions: see the header. */
#include "smtpd/transaction.h"

#include "smtpd/parameter.h"

#include <stdlib.h>

/* `FROM:` or `TO:`, then the path. White space behind the colon is in no grammar and in many
 * clients. */
static bool skip_keyword(struct slice *argument, const char *keyword)
{
    struct slice prefix = slice_of(keyword);

    if (!slice_starts_nocase(*argument, prefix))
        return false;
    *argument = slice_trim_start(slice_from(*argument, prefix.length));
    return true;
}

static enum reply parameter_reply(enum parameter_status status)
{
    switch (status) {
    case PARAMETER_OK:
        return REPLY_UNSET;
    case PARAMETER_UNKNOWN:
        return REPLY_UNKNOWN_PARAMETER;
    case PARAMETER_BAD:
        break;
    }
    return REPLY_BAD_PARAMETER;
}

static enum reply sender_reply(const struct rules *rules, const struct path *sender,
                               const struct parameters *parameters)
{
    if (sender->non_ascii && !parameters->utf8)
        return REPLY_SENDER_NEEDS_UTF8;
    if (parameters->size > rules->max_size)
        return REPLY_TOO_BIG;
    switch (policy_judge_sender(rules->policy, sender)) {
    case POLICY_ACCEPT:
        return REPLY_UNSET;
    case POLICY_UNKNOWN:
        return REPLY_POLICY_ERROR;
    default:
        return REPLY_SENDER_REFUSED;
    }
}

enum reply transaction_open(struct transaction **transaction, const struct rules *rules,
                            struct slice argument)
{
    struct parameters parameters;
    struct transaction *opened;
    struct path sender;
    struct slice rest;
    enum reply refusal;

    *transaction = NULL;
    if (!skip_keyword(&argument, "FROM:"))
        return REPLY_BAD_MAIL;
    if (!path_parse_reverse(argument, &sender, &rest))
        return REPLY_BAD_SENDER;
    refusal = parameter_reply(parameter_parse_mail(rest, &parameters));
    if (refusal == REPLY_UNSET)
        refusal = sender_reply(rules, &sender, &parameters);
    if (refusal != REPLY_UNSET)
        return refusal;

    opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return REPLY_LOCAL_ERROR;
    opened->sender = slice_copy(sender.mailbox);
    if (opened->sender == NULL) {
        free(opened);
        return REPLY_LOCAL_ERROR;
    }
    opened->declared = parameters.size;
    opened->utf8 = parameters.utf8;
    *transaction = opened;
    return REPLY_UNSET;
}

static enum reply recipient_reply(enum policy_verdict verdict)
{
    switch (verdict) {
    case POLICY_ACCEPT:
    case POLICY_RELAY:
    case POLICY_DISCARD:
        return REPLY_UNSET;
    case POLICY_REFUSE_DOMAIN:
        return REPLY_DOMAIN_REFUSED;
    case POLICY_REFUSE_MAILBOX:
        return REPLY_RECIPIENT_REFUSED;
    case POLICY_UNKNOWN:
        break;
    }
    return REPLY_POLICY_ERROR;
}

/* Lists that were read again in the midst of a transaction may send a recipient that is named twice
 * to another queue the second time: he stays where he is. */
static bool keep_recipient(struct transaction *transaction, enum queue queue,
                           const struct path *recipient)
{
    enum queue other = queue == QUEUE_STORE ? QUEUE_RELAY : QUEUE_STORE;

    return recipients_contain(&transaction->recipients[other], recipient) ||
           recipients_add(&transaction->recipients[queue], recipient);
}

enum reply transaction_add(struct transaction *transaction, const struct rules *rules,
                           const struct address *client, struct slice argument)
{
    enum policy_verdict verdict;
    struct path recipient;
    struct slice rest;
    enum reply refusal;

    /* Said of every RCPT behind the limit, whatever is wrong with it: the limit is of commands, not
     * of those that were accepted (RFC 9422, section 4). */
    if (transaction->accepted + transaction->refused >= rules->max_recipients)
        return REPLY_TOO_MANY_RECIPIENTS;
    if (!skip_keyword(&argument, "TO:"))
        return REPLY_BAD_RCPT;
    if (!path_parse_forward(argument, &recipient, &rest))
        return REPLY_BAD_RECIPIENT;
    refusal = parameter_reply(parameter_parse_rcpt(rest));
    if (refusal != REPLY_UNSET)
        return refusal;
    if (recipient.non_ascii && !transaction->utf8)
        return REPLY_RECIPIENT_NEEDS_UTF8;

    verdict = policy_judge_recipient(rules->policy, policy_judge_client(rules->policy, client),
                                     &recipient);
    refusal = recipient_reply(verdict);
    if (refusal != REPLY_UNSET)
        return refusal;
    if (verdict != POLICY_DISCARD &&
        !keep_recipient(transaction, verdict == POLICY_RELAY ? QUEUE_RELAY : QUEUE_STORE,
                        &recipient))
        return REPLY_LOCAL_ERROR;
    transaction->accepted++;
    return REPLY_UNSET;
}

const char *transaction_protocol(const struct transaction *transaction, bool extended, bool secure)
{
    if (transaction->utf8)
        return secure ? "UTF8SMTPS" : "UTF8SMTP";
    if (extended)
        return secure ? "ESMTPS" : "ESMTP";
    return "SMTP";
}

void transaction_close(struct transaction *transaction)
{
    if (transaction == NULL)
        return;
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        recipients_free(&transaction->recipients[queue]);
    free(transaction->sender);
    free(transaction);
}
