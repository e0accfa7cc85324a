/* What the cells of the session's table do beside giving a reply and a state (smtpd/transition.h).
 * Each gets the command's argument and the reply that came with the event, and returns REPLY_UNSET
 * when the cell's reply and next state hold, or the reply that refuses. Pure. */
#ifndef SMTPD_ACTION_H
#define SMTPD_ACTION_H

#include "smtpd/session.h"

enum reply action_take_helo(struct session *session, struct slice argument, enum reply refusal);
enum reply action_take_ehlo(struct session *session, struct slice argument, enum reply refusal);
enum reply action_take_sender(struct session *session, struct slice argument, enum reply refusal);
enum reply action_take_recipient(struct session *session, struct slice argument,
                                 enum reply refusal);
enum reply action_begin_content(struct session *session, struct slice argument, enum reply refusal);
enum reply action_begin_chunks(struct session *session, struct slice argument, enum reply refusal);
enum reply action_skip_chunk(struct session *session, struct slice argument, enum reply refusal);
enum reply action_finish_content(struct session *session, struct slice argument,
                                 enum reply refusal);
enum reply action_begin_drain(struct session *session, struct slice argument, enum reply refusal);
enum reply action_end_drain(struct session *session, struct slice argument, enum reply refusal);
enum reply action_refuse_message(struct session *session, struct slice argument,
                                 enum reply refusal);
enum reply action_forget_junk(struct session *session, struct slice argument, enum reply refusal);
enum reply action_start_tls(struct session *session, struct slice argument, enum reply refusal);
enum reply action_forget_client(struct session *session, struct slice argument, enum reply refusal);

#endif
