/* What a mail needs of a server: see the header. */
#include "relay/needs.h"

#include "queue/spool.h"

#include <string.h>

static bool header_needs_utf8(const struct mail *mail)
{
    static const char protocol[] = "UTF8SMTP";

    return mail->survey.eight_bit_header &&
           strncmp(mail->reader.envelope.protocol, protocol, sizeof protocol - 1) == 0;
}

static void fail_open(struct mail *mail, const char *status, const char *words, bool utf8_only)
{
    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN &&
            (!utf8_only || mail->recipients[i].non_ascii))
            mail_decide(mail, i, OUTCOME_FAILED, status, words, true);
}

void needs_refuse(struct mail *mail, const struct extensions *extensions)
{
    if (mail->survey.hops > QUEUE_HOPS_MAX)
        fail_open(mail, "5.4.6",
                  "the message has come through too many servers: it goes in circles", false);
    if (!extensions->utf8 && header_needs_utf8(mail))
        fail_open(mail, "5.6.9",
                  "the smarthost does not offer SMTPUTF8, which the header of this message needs",
                  false);
    if (!extensions->utf8)
        fail_open(mail, "5.6.7", "the smarthost does not offer SMTPUTF8, which this address needs",
                  !mail->sender_non_ascii);
    if (mail->survey.eight_bit && !extensions->eight_bit)
        fail_open(mail, "5.6.3", "the smarthost does not offer 8BITMIME, which this message needs",
                  false);
}

bool needs_utf8(const struct mail *mail, size_t count)
{
    if (mail->sender_non_ascii || header_needs_utf8(mail))
        return true;
    for (size_t i = 0; i < count; i++)
        if (mail->recipients[i].outcome == OUTCOME_OPEN && mail->recipients[i].non_ascii)
            return true;
    return false;
}
