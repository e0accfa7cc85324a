/* A message of the queue relay/ in hand: its file, what it asks of a server, and what became of
 * each of its recipients. One owner at a time, on the loop or in the pool. */
#ifndef RELAY_MAIL_H
#define RELAY_MAIL_H

#include "queue/id.h"
#include "queue/reader.h"
#include "queue/spool.h"
#include "relay/reply.h"
#include "relay/survey.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum outcome {
    OUTCOME_OPEN,     /* nothing was said: to be tried as if it had not been */
    OUTCOME_ACCEPTED, /* the smarthost has it */
    OUTCOME_AGAIN,    /* too many recipients for one transaction: at once in the next */
    OUTCOME_DEFERRED, /* 4xx: later */
    OUTCOME_FAILED    /* 5xx, or it cannot be sent: never */
};

struct recipient {
    const char *address; /* a forward-path without brackets, into the envelope */
    bool non_ascii;
    bool taken; /* RCPT was accepted in the transaction that is under way */
    enum outcome outcome;
    bool own_words;                 /* `words` are ours, the smarthost has not been asked */
    char status[REPLY_STATUS_SIZE]; /* RFC 3463 */
    char *words; /* the reply that decided, owned; NULL: none, or memory is out */
};

/* Bytes of content that are read at a time. */
enum { MAIL_PIECE = 64 * 1024 };

struct mail {
    char id[ID_SIZE];
    enum queue_directory found;     /* QUEUE_NEW or QUEUE_CUR: where it was loaded from */
    enum queue_directory directory; /* where the file is that counts now, one of those */
    struct reader reader;           /* open, with the envelope */
    struct recipient *recipients;   /* of the envelope, those that are still to be sent to */
    size_t count;
    bool sender_non_ascii;
    struct survey survey;
    char *piece; /* the content at the reader's position, up to MAIL_PIECE */
    size_t piece_length;
    int error;      /* of the last mail_read or of the recorder: an errno value, or 0 */
    int64_t due;    /* set by the recorder: when it is to be tried again, microseconds since the
                      * epoch; 0: never, it has left the queue */
    unsigned tries; /* that ended in trouble, since it was loaded */
    uint64_t began; /* when it was given to a connection, in nanoseconds of uv_hrtime */
    uint64_t rests_until; /* not to be sent before, in milliseconds of uv_now */
    struct mail *next;
};

enum mail_status {
    MAIL_LOADED,
    MAIL_GONE,       /* done with, by somebody else */
    MAIL_SUPERSEDED, /* new/ID is gone because cur/ID is there, which counts */
    MAIL_SET_ASIDE,  /* no message, or an address of it is none: in failed/, logged */
    MAIL_UNREADABLE  /* the system's fault, logged: to be tried again */
};

/* Loads ID of a directory: opens it, checks the addresses, reads all of it for the survey, and has
 * the first piece of the content ready. `*mail` is allocated when LOADED, for mail_free. Where
 * new/ID and cur/ID are both there cur/ID counts, and new/ID is removed. Blocks; for the pool. */
enum mail_status mail_load(struct mail **mail, const struct spool *spool,
                           enum queue_directory directory, const char *id);

/* Reads the next piece of the content into `piece`; `piece_length` 0 is the end. Returns 0 or an
 * errno value, as `error`. Blocks; for the pool. */
int mail_read(struct mail *mail);

/* Back to the first piece, which is read again. Returns as mail_read. Blocks. */
int mail_rewind(struct mail *mail);

/* Decides about a recipient, in words that are copied (NULL: none). */
void mail_decide(struct mail *mail, size_t recipient, enum outcome outcome, const char *status,
                 const char *words, bool own_words);

/* Any recipient with this outcome? */
bool mail_has(const struct mail *mail, enum outcome outcome);

/* Goes on with those that have no outcome yet, when what became of the others is on the disk: those
 * that were ACCEPTED are recipients no more. */
void mail_go_on(struct mail *mail);

/* Frees everything; NULL is harmless. */
void mail_free(struct mail *mail);

#endif
