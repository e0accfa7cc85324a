/* The table behind a session: for every state and every event the reply, the next state, and what
 * is done. A cell may leave the decision to an action. Pure. */
#ifndef SMTPD_TRANSITION_H
#define SMTPD_TRANSITION_H

#include "smtpd/session.h"

struct transition {
    enum reply reply;           /* NONE: nothing is said */
    enum session_state next;    /* never NEW, which is how a hole is told from a cell */
    enum session_state refused; /* the state when the action refuses */

    /* `argument` is the command's; `refusal` came with the event. UNSET when the cell's reply and
     * next state hold, or the reply that refuses. May be NULL. */
    enum reply (*action)(struct session *session, struct slice argument, enum reply refusal);

    bool junk; /* counts against SMTPD_MAX_JUNK */
};

const struct transition *transition_of(enum session_state state, enum session_event event);

#endif
