/* The command line: see the header. Each command is a row that says what it takes; what is not in
 * its row is refused, so that no option is silently without effect. Nothing is abbreviated: a tool
 * that deletes does not guess. */
#include "queue/tool/options.h"

#include "queue/spool.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum option {
    OPTION_ALL = 1 << 0,
    OPTION_ENVELOPE = 1 << 1,
    OPTION_JSON = 1 << 2,
    OPTION_RAW = 1 << 3,
    OPTION_REPAIR = 1 << 4,
    OPTION_YES = 1 << 5,
    OPTION_QUEUE = 1 << 6
};

static const struct {
    const char *name;
    enum option option;
} option_rows[] = {
    {"--all", OPTION_ALL}, {"--envelope", OPTION_ENVELOPE}, {"--json", OPTION_JSON},
    {"--raw", OPTION_RAW}, {"--repair", OPTION_REPAIR},     {"--yes", OPTION_YES},
};

static const struct {
    const char *name;
    unsigned options;
    size_t least, most; /* names */
} command_rows[COMMAND_COUNT] = {
    [COMMAND_LIST] = {"list", OPTION_JSON | OPTION_QUEUE, 0, 0},
    [COMMAND_FAILED] = {"failed", OPTION_JSON | OPTION_QUEUE, 0, 0},
    [COMMAND_SHOW] = {"show", OPTION_ENVELOPE | OPTION_RAW | OPTION_QUEUE, 1, 1},
    [COMMAND_STATS] = {"stats", OPTION_JSON | OPTION_QUEUE, 0, 0},
    [COMMAND_RETRY] = {"retry", OPTION_ALL | OPTION_QUEUE, 1, SIZE_MAX},
    [COMMAND_REMOVE] = {"remove", OPTION_YES | OPTION_QUEUE, 1, SIZE_MAX},
    [COMMAND_REPLAY] = {"replay", 0, 0, 0},
    [COMMAND_CHECK] = {"check", OPTION_JSON | OPTION_REPAIR, 0, 0},
    [COMMAND_TRACE] = {"trace", OPTION_JSON, 1, 1},
};

const char options_help[] = "  list [--json]                 every message, the oldest first\n"
                            "  failed [--json]               those that were given up, and why\n"
                            "  show [--envelope|--raw] ID    one message\n"
                            "  stats [--json]                counts, and age by domain\n"
                            "  retry ID...|--all             failed ones back into new/\n"
                            "  remove [--yes] ID...          delete; asks\n"
                            "  replay                        kept ones into new/ once more\n"
                            "  check [--repair] [--json]     what does not belong in the spool\n"
                            "  trace [--json] ID             where it is: spool, database, gone\n";

/* What is quoted came from a command line, which may be another program's. */
static int refuse(char why[static 400], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(char why[static 400], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, 400, format, arguments);
    va_end(arguments);
    for (char *at = why; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
            *at = '?';
    }
    return EX_USAGE;
}

bool options_name_valid(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
           strlen(name) <= NAME_MAX;
}

static unsigned option_of(const char *argument)
{
    for (size_t i = 0; i < sizeof option_rows / sizeof *option_rows; i++) {
        if (strcmp(argument, option_rows[i].name) == 0)
            return option_rows[i].option;
    }
    return 0;
}

static int take_queue(struct options *options, const char *name, char why[static 400])
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        if (name != NULL && strcmp(name, queue_names[queue]) == 0) {
            options->queues = 1U << queue;
            return 0;
        }
    }
    return refuse(why, "--queue is %s or %s", queue_names[QUEUE_STORE], queue_names[QUEUE_RELAY]);
}

static int take_command(struct options *options, const char *name, char why[static 400])
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, command_rows[i].name) == 0) {
            options->command = (enum command)i;
            return 0;
        }
    }
    return refuse(why, "no such command: %s", name);
}

/* Any number of names may be given; none stands for all of them, where all are meant. */
static int check_count(const struct options *options, char why[static 400])
{
    size_t least = options->all ? 0 : command_rows[options->command].least;
    size_t most = options->all ? 0 : command_rows[options->command].most;
    const char *command = command_rows[options->command].name;

    if (options->names_count < least)
        return refuse(
            why, options->command == COMMAND_RETRY ? "%s: which? ID..., or --all" : "%s: which ID?",
            command);
    if (options->names_count > most)
        return refuse(why, "%s: too much: %s", command, options->names[most]);
    for (size_t i = 0; i < options->names_count; i++) {
        if (!options_name_valid(options->names[i]))
            return refuse(why, "neither an id nor a plain name in failed/: %s", options->names[i]);
    }
    return 0;
}

int options_parse(struct options *options, int argc, char **argv, char why[static 400])
{
    unsigned given = 0;
    bool names_only = false;
    int code;

    *options = (struct options){.queues = (1U << QUEUE_COUNT) - 1, .names = (const char **)argv};
    if (argc < 2)
        return refuse(why, "what is to be done?");
    code = take_command(options, argv[1], why);
    if (code != 0)
        return code;
    for (int i = 2; i < argc; i++) {
        unsigned option = option_of(argv[i]);
        if (names_only || argv[i][0] != '-') {
            options->names[options->names_count++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--") == 0) {
            names_only = true;
            continue;
        }
        if (strcmp(argv[i], "--queue") == 0 || strncmp(argv[i], "--queue=", 8) == 0) {
            option = OPTION_QUEUE;
            code = take_queue(options, argv[i][7] == '=' ? argv[i] + 8 : argv[++i], why);
            if (code != 0)
                return code;
        }
        if (option == 0 || (command_rows[options->command].options & option) == 0)
            return refuse(why, "%s: no such option: %s", command_rows[options->command].name,
                          argv[i]);
        given |= option;
    }
    options->all = given & OPTION_ALL;
    options->envelope = given & OPTION_ENVELOPE;
    options->json = given & OPTION_JSON;
    options->raw = given & OPTION_RAW;
    options->repair = given & OPTION_REPAIR;
    options->yes = given & OPTION_YES;
    if (options->envelope && options->raw)
        return refuse(why, "show: either --envelope or --raw");
    return check_count(options, why);
}
