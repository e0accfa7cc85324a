/* What libpq's results and errors say, made fit for a log line and for a verdict. Pure: any thread. */
#ifndef COMMON_PGWORDS_H
#define COMMON_PGWORDS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* A text on one line, cut to what `words` holds. Returns `words`. */
char *pgwords_flatten(const char *text, char *words, size_t size);

/* What went wrong, fit for a log line: the server's or libpq's primary message on one line. DETAIL
 * is left out, because it may quote a row, and rows are mail. Returns `words`. */
char *pgwords_of(const PGresult *result, char *words, size_t size);

/* The SQLSTATE of a result, or "" when it has none (libpq's own errors). */
const char *pgwords_sqlstate(const PGresult *result);

/* Whether the server ends the session with it, as after pg_terminate_backend. */
bool pgwords_fatal(const PGresult *result);

#endif
