/* SQLSTATE to verdict, by a table: see the header. Appendix A of PostgreSQL's manual has the codes.
 */
#include "storer/verdict.h"

#include <stddef.h>
#include <string.h>

const char *const verdict_names[VERDICT_COUNT] = {
    [VERDICT_WAIT] = "wait",           [VERDICT_RECONNECT] = "reconnect",
    [VERDICT_PARTITION] = "partition", [VERDICT_REFUSED] = "refused",
    [VERDICT_TOO_MUCH] = "too_much",   [VERDICT_SETUP] = "setup",
};

/* The first row whose prefix fits counts. What is not here nobody foresaw: it is not known that the
 * message is to blame, so nothing is set aside, and not known that it is not, so it is found by
 * halving and holds up no other. */
static const struct {
    const char *prefix;
    enum verdict verdict;
} rows[] = {
    {"2200H", VERDICT_SETUP},     /* a sequence has come to its end */
    {"22", VERDICT_REFUSED},      /* data exception: invalid UTF-8, not an address, out of range */
    {"23502", VERDICT_SETUP},     /* a NULL: we send none that a trigger does not fill in */
    {"23", VERDICT_REFUSED},      /* a constraint (23514 without one: verdict_of) */
    {"25006", VERDICT_RECONNECT}, /* read-only transaction: a standby, or a primary no more */
    {"53200", VERDICT_TOO_MUCH},  /* out of memory */
    {"54", VERDICT_TOO_MUCH}, /* a limit: perhaps a row's, perhaps all transaction ids are used */
    {"57014", VERDICT_TOO_MUCH}, /* cancelled: statement_timeout */
    {"28", VERDICT_SETUP},       /* invalid authorization */
    {"3D", VERDICT_SETUP},       /* no such database */
    {"3F", VERDICT_SETUP},       /* no such schema */
    {"42", VERDICT_SETUP},       /* undefined table, column, function; no permission */
    {"0A", VERDICT_SETUP},       /* feature not supported: ON CONFLICT on a table that is foreign */
    {"08", VERDICT_WAIT},        /* connection */
    {"25", VERDICT_WAIT},        /* state of the transaction */
    {"40", VERDICT_WAIT},        /* serialization, deadlock */
    {"53", VERDICT_WAIT},        /* disk full, too many connections */
    {"55", VERDICT_WAIT},        /* in use, lock not available */
    {"57", VERDICT_WAIT},        /* shutdown, crash, starting up */
    {"58", VERDICT_WAIT},        /* the server's own system errors */
};

enum verdict verdict_of(const char *sqlstate, bool constraint)
{
    if (strcmp(sqlstate, "23514") == 0 && !constraint)
        return VERDICT_PARTITION;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strncmp(sqlstate, rows[i].prefix, strlen(rows[i].prefix)) == 0)
            return rows[i].verdict;
    return *sqlstate == '\0' ? VERDICT_WAIT : VERDICT_TOO_MUCH;
}
