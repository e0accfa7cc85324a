/* What became of each recipient of a message. */
#include "relay/mail.h"

#include <stdlib.h>
#include <string.h>

void mail_decide(struct mail *mail, size_t recipient, enum outcome outcome, const char *status,
                 const char *words, bool own_words)
{
    struct recipient *decided = &mail->recipients[recipient];
    /* Both may be those that stand there: an outcome may become another for the same reason. */
    char *copy = words != NULL ? strndup(words, REPLY_TEXT_MAX) : NULL;
    size_t length = strnlen(status, sizeof decided->status - 1);

    free(decided->words);
    decided->words = copy;
    memmove(decided->status, status, length);
    decided->status[length] = '\0';
    decided->outcome = outcome;
    decided->own_words = own_words;
}

bool mail_has(const struct mail *mail, enum outcome outcome)
{
    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].outcome == outcome)
            return true;
    return false;
}

void mail_go_on(struct mail *mail)
{
    size_t left = 0;

    for (size_t i = 0; i < mail->count; i++) {
        if (mail->recipients[i].outcome == OUTCOME_ACCEPTED)
            free(mail->recipients[i].words);
        else
            mail->recipients[left++] = mail->recipients[i];
    }
    mail->count = left;
}
