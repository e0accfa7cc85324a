/* What a client owes by when: a command line within the timeout, data that keeps coming, fast
 * enough and not for ever. Times are milliseconds of a clock that does not jump. Pure. */
#ifndef SMTPD_PACE_H
#define SMTPD_PACE_H

#include <stdint.h>

struct pace_limits {
    uint64_t timeout;  /* for a command line, and for data without progress */
    uint64_t minimum;  /* octets of data that each stretch of `timeout` must bring */
    uint64_t max_time; /* for the data of one message */
};

enum pace_verdict { PACE_OK, PACE_SILENT, PACE_SLOW };

struct pace {
    uint64_t began;    /* the data of the message */
    uint64_t stretch;  /* the present stretch began */
    uint64_t progress; /* data last came */
    uint64_t octets;   /* in this stretch */
};

/* Data begins. */
void pace_begin(struct pace *pace, uint64_t now);

/* Data came. */
void pace_count(struct pace *pace, uint64_t now, uint64_t octets);

/* We, not the client, held things up until now: the stretch begins anew. The time of the whole is
 * not given back. */
void pace_excuse(struct pace *pace, uint64_t now);

/* Judges, and begins the next stretch when one is over. Sets `*deadline` to when it should be asked
 * again when OK. */
enum pace_verdict pace_judge(struct pace *pace, const struct pace_limits *limits, uint64_t now,
                             uint64_t *deadline);

#endif
