/* What storer says to PostgreSQL. The tables and functions are sql/'s. */
#ifndef STORER_STATEMENTS_H
#define STORER_STATEMENTS_H

/* The schema_version() that these statements are written for; a later one promises to serve them.
 */
enum { STATEMENTS_SCHEMA_VERSION = 2 };

/* Of a session, before anything else: sets it up, and gives one row of which the second column is
 * schema_version() and the third whether the role may do what follows. Fails with class 42 where
 * the statements below would. */
extern const char statement_check[];

/* A transaction. */
extern const char statement_begin[];
extern const char statement_messages[];   /* $1 to $8: the columns of struct batch */
extern const char statement_deliveries[]; /* $1 to $4 */
extern const char statement_bounds[];     /* one row: see batch_committed */
extern const char statement_commit[];
extern const char statement_rollback[];

/* The same by COPY (storer/copy.h), as one simple query. */
extern const char statement_copy[];

extern const char statement_partitions[]; /* $1: text[] of days */
extern const char statement_notify[];     /* $1: text[] of recipients */

#endif
