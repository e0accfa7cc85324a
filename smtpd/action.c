/* What the cells of the table do: see the header. */
#include "smtpd/action.h"

#include "queue/path.h"

#include <stdlib.h>

static enum reply take_name(struct session *session, struct slice argument, bool extended)
{
    char *helo;

    if (argument.length > PATH_DOMAIN_MAX)
        return REPLY_BAD_NAME;
    for (size_t i = 0; i < argument.length; i++)
        if (argument.start[i] <= ' ' || argument.start[i] > '~')
            return REPLY_BAD_NAME;
    helo = slice_copy(argument);
    if (helo == NULL)
        return REPLY_LOCAL_ERROR;
    free(session->helo);
    session->helo = helo;
    session->extended = extended;
    return REPLY_UNSET;
}

enum reply action_take_helo(struct session *session, struct slice argument, enum reply refusal)
{
    (void)refusal;
    return take_name(session, argument, false);
}

enum reply action_take_ehlo(struct session *session, struct slice argument, enum reply refusal)
{
    (void)refusal;
    return take_name(session, argument, true);
}

enum reply action_take_sender(struct session *session, struct slice argument, enum reply refusal)
{
    refusal = transaction_open(&session->transaction, session->rules, argument);
    if (refusal == REPLY_UNSET)
        refusal = session->host->room_check(session, session->transaction->declared);
    return refusal;
}

enum reply action_take_recipient(struct session *session, struct slice argument, enum reply refusal)
{
    refusal = transaction_add(session->transaction, session->rules, session->client, argument);
    if (refusal != REPLY_UNSET)
        session->transaction->refused++;
    return refusal;
}

enum reply action_begin_content(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    session->host->content_expected(session);
    return session->host->message_begin(session) ? REPLY_UNSET : REPLY_LOCAL_ERROR;
}

/* The octets of the chunk come whatever happens, so there is nothing to say before they have. */
enum reply action_begin_chunks(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    session->host->content_expected(session);
    if (!session->host->message_begin(session))
        session->transaction->failure = REPLY_LOCAL_ERROR;
    return REPLY_UNSET;
}

enum reply action_skip_chunk(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    session->host->content_expected(session);
    return REPLY_UNSET;
}

enum reply action_finish_content(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    session->host->message_finish(session);
    return REPLY_UNSET;
}

enum reply action_begin_drain(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    session->transaction->failure = refusal;
    session->host->message_abort(session);
    return REPLY_UNSET;
}

enum reply action_end_drain(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    return session->transaction->failure;
}

enum reply action_refuse_message(struct session *session, struct slice argument, enum reply refusal)
{
    (void)session;
    (void)argument;
    return refusal;
}

enum reply action_forget_junk(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    session->junk = 0;
    return REPLY_UNSET;
}

enum reply action_start_tls(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    if (!session->rules->tls)
        return REPLY_UNIMPLEMENTED;
    if (session->secure)
        return REPLY_TLS_ALREADY;
    return session->host->tls_begin(session) ? REPLY_UNSET : REPLY_TLS_UNAVAILABLE;
}

/* RFC 3207, section 4.2: what the client said in the clear might have been said by anybody. */
enum reply action_forget_client(struct session *session, struct slice argument, enum reply refusal)
{
    (void)argument;
    (void)refusal;
    free(session->helo);
    session->helo = NULL;
    session->extended = false;
    session->secure = true;
    return REPLY_UNSET;
}
