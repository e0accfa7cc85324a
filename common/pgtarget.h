/* Where a try to connect goes, and with which settings: the part of common/pgconn.h that reads
 * connection strings. Nothing here waits for a server. */
#ifndef COMMON_PGTARGET_H
#define COMMON_PGTARGET_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* PQconnectStart to one host of those in `conninfo` (and libpq's PG* variables): the one at place
 * `host_number`, counted through the list again and again. Sets `*hosts` to how many there are, at
 * least 1. The defaults that pgconn_options promises are added. Blocks while a name is looked up.
 * NULL when memory is out; otherwise as PQconnectStart: to be looked at and finished. */
PGconn *pgtarget_start(const char *conninfo, const char *name, unsigned host_number,
                       unsigned *hosts);

/* The connect_timeout in force, in seconds; 0: for ever. */
unsigned pgtarget_timeout(PGconn *conn);

/* Whether libpq can read the string. Its own words are not passed on: they may quote a password. */
bool pgtarget_check(const char *conninfo);

/* Writes the `index`th entry of a comma-separated list, as libpq's host, hostaddr and port are,
 * into `entry`; a list of one serves every index. False when there is none, or it is empty or too
 * long. */
bool pgtarget_list_entry(const char *list, unsigned index, char *entry, size_t size);

#endif
