/* The database's part of a trace: see the header. */
#include "queue/tool/database.h"

#include "queue/id.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The id's millisecond is that of received_at, which says in what partition to look. */
static const char query[] =
    "SELECT e.recipient"
    " FROM emails AS e"
    " WHERE e.message_id = $1::uuid"
    " AND e.received_at >= to_timestamp($2::bigint / 1000.0) - interval '1 millisecond'"
    " AND e.received_at < to_timestamp($2::bigint / 1000.0) + interval '2 milliseconds'"
    " ORDER BY e.id";
static const char query_expired[] = "SELECT to_timestamp($1::bigint / 1000.0)"
                                    " <= statement_timestamp() - retention()";

static void say(struct database_answer *answer, const char *why)
{
    answer->status = DATABASE_DOWN;
    snprintf(answer->why, sizeof answer->why, "%.*s", (int)strcspn(why, "\n"), why);
    if (answer->why[0] == '\0')
        snprintf(answer->why, sizeof answer->why, "no answer");
}

static bool has_target(const char *url)
{
    static const char *const variables[] = {"PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE",
                                            "PGPORT"};

    for (size_t i = 0; url == NULL && i < sizeof variables / sizeof *variables; i++) {
        if (getenv(variables[i]) != NULL)
            return true;
    }
    return url != NULL;
}

/* The defaults stand before the string, whose values win, as for the other programs. A standby that
 * readers use is as good as the server that is written to. */
static PGconn *connect_to(const char *url)
{
    const char *const keywords[] = {"connect_timeout", "fallback_application_name", "dbname",
                                    "client_encoding", NULL};
    const char *const values[] = {getenv("PGCONNECT_TIMEOUT") != NULL ? NULL : "10", "mayfly-queue",
                                  url, "UTF8", NULL};

    return PQconnectdbParams(keywords, values, 1);
}

static PGresult *ask(PGconn *conn, const char *sql, int count, const char *const *values)
{
    return PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
}

static void take_recipients(struct database_answer *answer, const PGresult *result)
{
    int count = PQntuples(result);

    answer->recipients = calloc((size_t)count + 1, sizeof *answer->recipients);
    for (int i = 0; answer->recipients != NULL && i < count; i++) {
        answer->recipients[i] = strdup(PQgetvalue(result, i, 0));
        if (answer->recipients[i] == NULL)
            break;
        answer->count++;
    }
    answer->status = count > 0 ? DATABASE_HAS : DATABASE_HAS_NOT;
    if (answer->count < count)
        say(answer, "out of memory");
}

static void look(struct database_answer *answer, PGconn *conn, const char *id)
{
    char milliseconds[32];
    const char *const values[] = {id, milliseconds};
    PGresult *result;

    snprintf(milliseconds, sizeof milliseconds, "%lld", (long long)(id_time(id) / 1000));
    /* A lock that somebody holds on a table is not waited for until the end of days. */
    PQclear(PQexec(conn, "SET statement_timeout = '30s'"));
    result = ask(conn, query, 2, values);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        say(answer, PQresultErrorMessage(result));
    else
        take_recipients(answer, result);
    PQclear(result);
    if (answer->status != DATABASE_HAS_NOT)
        return;
    result = ask(conn, query_expired, 1, values + 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        say(answer, PQresultErrorMessage(result));
    else
        answer->expired = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
}

void database_ask(struct database_answer *answer, const char *url, const char *id)
{
    PGconn *conn;

    *answer = (struct database_answer){.status = DATABASE_UNASKED};
    if (!has_target(url))
        return;
    conn = connect_to(url);
    if (PQstatus(conn) == CONNECTION_OK)
        look(answer, conn, id);
    else
        say(answer, PQerrorMessage(conn));
    PQfinish(conn);
}

void database_answer_free(struct database_answer *answer)
{
    for (int i = 0; i < answer->count; i++)
        free(answer->recipients[i]);
    free(answer->recipients);
    *answer = (struct database_answer){0};
}
