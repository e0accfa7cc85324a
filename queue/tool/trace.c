/* Where a message is now: see the header.
 *
 * An id that was acknowledged is in the spool, or stored until it expires, or it was relayed:
 * nothing else becomes of mail, unless somebody removed it by hand or its domain is discarded.
 * Nothing in the spool or the database remembers what was relayed; relay's log does (`event=relayed
 * id=...`).
 *
 * The database is asked after the spool: storer commits before it removes the file, so what is in
 * neither, in this order, was not on its way from the one to the other. */
#include "queue/tool/trace.h"

#include "queue/id.h"
#include "queue/tool/database.h"
#include "queue/tool/figures.h"
#include "queue/tool/plain.h"
#include "queue/tool/summary.h"

#include <string.h>
#include <sysexits.h>

struct trace {
    const struct tool *tool;
    const char *id;
    size_t found;
    json_t *spool;
    struct database_answer database;
};

static void print_place(const struct summary *summary, const struct tool *tool)
{
    char file[PLACE_SIZE], age[FIGURE_SIZE];

    place_format(file, summary->place, NULL);
    figure_age(age, tool->now - summary->received);
    printf("spool     %s: %s, %s old", file, place_state(summary->place), age);
    if (summary->problem != NULL)
        printf(", %s", summary->problem);
    if (summary->place.queue == QUEUE_RELAY && summary->place.directory == QUEUE_CUR &&
        summary->problem == NULL) {
        figure_age(age, summary->reader.modified - tool->now);
        printf(", next try in %s", age);
    }
    for (size_t i = 0; i < summary->reader.envelope.recipients_count; i++) {
        printf("\n          <");
        plain_field(stdout, summary->reader.envelope.recipients[i], 0);
        putchar('>');
    }
    putchar('\n');
}

/* tmp/ is looked into as well: a message that is being received now has its id already. */
static void trace_spool(struct trace *trace)
{
    struct place places[PLACE_COUNT];
    size_t count = place_find(trace->tool, trace->id, places);

    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        struct place tmp = {(enum queue)queue, QUEUE_TMP};
        if (place_has(trace->tool, tmp, trace->id))
            places[count++] = tmp;
    }
    for (size_t i = 0; i < count; i++) {
        struct summary summary;
        if (!summary_open(&summary, trace->tool, places[i], trace->id))
            continue;
        trace->found++;
        if (places[i].directory == QUEUE_TMP)
            summary.problem = summary.problem != NULL ? "not yet whole" : NULL;
        if (trace->tool->options.json)
            tool_json_set(trace->spool, NULL, summary_json(&summary, trace->tool));
        else
            print_place(&summary, trace->tool);
        summary_close(&summary);
    }
}

/* Where it is, in a word, and what that means. */
static const char *verdict(const struct trace *trace, const char **meaning)
{
    *meaning = "";
    if (trace->found > 0)
        return "spool";
    switch (trace->database.status) {
    case DATABASE_HAS:
        return "database";
    case DATABASE_HAS_NOT:
        *meaning = trace->database.expired
                       ? "if it was stored, its time has passed"
                       : "relayed; or else removed by hand, discarded, or never accepted here: see "
                         "what the logs have of its id";
        return "gone";
    case DATABASE_UNASKED:
        *meaning =
            "stored, or relayed, or gone: the database is asked when DATABASE_URL says where it is";
        return "unknown";
    case DATABASE_DOWN:
        *meaning = "the database did not say";
        return "unknown";
    }
    return "";
}

static void print_database(const struct database_answer *database)
{
    if (database->status == DATABASE_HAS)
        printf("database  stored\n");
    if (database->status == DATABASE_HAS_NOT)
        printf("database  not there\n");
    for (int i = 0; i < database->count; i++) {
        printf("          <");
        plain_field(stdout, database->recipients[i], 0);
        printf(">\n");
    }
}

static json_t *database_json(const struct database_answer *database)
{
    json_t *list;

    if (database->status == DATABASE_UNASKED)
        return json_null();
    if (database->status == DATABASE_DOWN)
        return json_pack("{s:o}", "error", tool_json_text(database->why));
    list = json_array();
    for (int i = 0; i < database->count; i++)
        tool_json_set(list, NULL, tool_json_text(database->recipients[i]));
    return json_pack("{s:b, s:o}", "stored", database->status == DATABASE_HAS, "to", list);
}

static int conclude(struct trace *trace)
{
    const char *meaning, *where = verdict(trace, &meaning);
    bool found = trace->found > 0 || trace->database.status == DATABASE_HAS;

    if (trace->tool->options.json) {
        tool_print_json(json_pack("{s:s, s:s, s:O, s:o}", "id", trace->id, "where", where, "spool",
                                  trace->spool, "database", database_json(&trace->database)));
    } else {
        print_database(&trace->database);
        if (!found)
            printf("%-9s %s\n", where, meaning);
    }
    if (trace->database.status == DATABASE_DOWN)
        tool_complain("database", trace->database.why);
    if (found)
        return EX_OK;
    return trace->database.status == DATABASE_DOWN ? EX_UNAVAILABLE : EX_NOINPUT;
}

int trace_run(const struct tool *tool)
{
    struct trace trace = {.tool = tool, .id = tool->options.names[0]};
    int code;

    if (!id_valid(trace.id)) {
        tool_complain(trace.id, "not an id");
        return EX_USAGE;
    }
    trace.spool = json_array();
    trace_spool(&trace);
    database_ask(&trace.database, tool->database_url, trace.id);
    /* It may have been between two places. */
    if (trace.found == 0 && trace.database.status != DATABASE_HAS)
        trace_spool(&trace);
    code = conclude(&trace);
    database_answer_free(&trace.database);
    json_decref(trace.spool);
    return code;
}
