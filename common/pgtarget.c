/* Hosts and defaults of a try to connect: see the header. */
#include "common/pgtarget.h"

#include <stdlib.h>
#include <string.h>

bool pgtarget_list_entry(const char *list, unsigned index, char *entry, size_t size)
{
    if (!list)
        return false;
    if (strchr(list, ','))
        for (; index > 0; index--) {
            list = strchr(list, ',');
            if (!list)
                return false;
            list++;
        }
    size_t length = strcspn(list, ",");
    if (length == 0 || length >= size)
        return false;
    memcpy(entry, list, length);
    entry[length] = '\0';
    return true;
}

/* The lists of hosts, whoever they come from. The strings belong to the two option arrays. */
struct host_lists {
    PQconninfoOption *given, *defaults;
    const char *host, *hostaddr, *port;
    unsigned count; /* of hosts, at least 1 */
};

static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0 && options->val && options->val[0] != '\0')
            return options->val;
    return NULL;
}

static void host_lists_read(struct host_lists *lists, const char *conninfo)
{
    *lists = (struct host_lists){.given = conninfo ? PQconninfoParse(conninfo, NULL) : NULL,
                                 .defaults = PQconndefaults(),
                                 .count = 1};
    const char **fields[] = {&lists->host, &lists->hostaddr, &lists->port};
    const char *const keywords[] = {"host", "hostaddr", "port"};
    for (size_t i = 0; i < 3; i++) {
        *fields[i] = option_value(lists->given, keywords[i]);
        if (!*fields[i])
            *fields[i] = option_value(lists->defaults, keywords[i]);
    }
    const char *list = lists->hostaddr ? lists->hostaddr : lists->host;
    char entry[1024];
    while (list && pgtarget_list_entry(list, lists->count, entry, sizeof entry) &&
           strchr(list, ','))
        lists->count++;
}

static void host_lists_free(struct host_lists *lists)
{
    PQconninfoFree(lists->given);
    PQconninfoFree(lists->defaults);
}

/* libpq walks a list of hosts by itself, but only past those that refuse: it would wait for ever at
 * one that takes the connection and then says nothing, since nobody but PQconnectPoll can move it
 * on. So each try has one host.
 *
 * libpq lets the last of several values win: the defaults stand before the string, the host after.
 */
PGconn *pgtarget_start(const char *conninfo, const char *name, unsigned host_number,
                       unsigned *hosts)
{
    struct host_lists lists;
    host_lists_read(&lists, conninfo);
    *hosts = lists.count;

    const char *keywords[16], *values[16];
    size_t count = 0;
#define OPTION(keyword, value) (keywords[count] = (keyword), values[count++] = (value))
    if (!getenv("PGTARGETSESSIONATTRS"))
        OPTION("target_session_attrs", "read-write");
    if (!getenv("PGCONNECT_TIMEOUT"))
        OPTION("connect_timeout", "10");
    OPTION("fallback_application_name", name);
    OPTION("keepalives_idle", "15");
    OPTION("keepalives_interval", "5");
    OPTION("keepalives_count", "3");
    OPTION("tcp_user_timeout", "30000");
    OPTION("dbname", conninfo);
    OPTION("client_encoding", "UTF8"); /* not a choice: it is what the programs send */
    char host[1024], hostaddr[128], port[16];
    if (lists.count > 1) {
        unsigned index = host_number % lists.count;
        if (pgtarget_list_entry(lists.host, index, host, sizeof host))
            OPTION("host", host);
        if (pgtarget_list_entry(lists.hostaddr, index, hostaddr, sizeof hostaddr))
            OPTION("hostaddr", hostaddr);
        OPTION("port", pgtarget_list_entry(lists.port, index, port, sizeof port) ? port : "5432");
    }
    OPTION(NULL, NULL);
#undef OPTION
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    host_lists_free(&lists);
    return conn;
}

unsigned pgtarget_timeout(PGconn *conn)
{
    PQconninfoOption *options = PQconninfo(conn);
    const char *value = option_value(options, "connect_timeout");
    /* NOLINTNEXTLINE(cert-err34-c): libpq has read it before us */
    int seconds = value ? atoi(value) : 0;
    PQconninfoFree(options);
    return seconds > 0 ? (unsigned)seconds : 0;
}

bool pgtarget_check(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    PQconninfoFree(options);
    return options != NULL;
}
