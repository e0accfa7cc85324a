/* libpq's words: see the header. */
#include "common/pgwords.h"

#include <string.h>

char *pgwords_flatten(const char *text, char *words, size_t size)
{
    size_t length = 0;
    for (bool space = false; *text && length + 2 < size; text++) {
        if (strchr(" \t\r\n", *text)) {
            space = length > 0;
            continue;
        }
        if (space)
            words[length++] = ' ';
        space = false;
        words[length++] = *text;
    }
    words[length] = '\0';
    return words;
}

char *pgwords_of(const PGresult *result, char *words, size_t size)
{
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return pgwords_flatten(primary ? primary : PQresultErrorMessage(result), words, size);
}

const char *pgwords_sqlstate(const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return sqlstate ? sqlstate : "";
}

bool pgwords_fatal(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}
