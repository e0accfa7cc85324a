/* Settings: a table in each program, filled from the environment and, for what the environment does
 * not set, from a `.env` file in the working directory. The table is also what --help, --settings
 * and --check print, so that what is documented is what is read.
 *
 * Called once at start, before any thread. Strings and lists live until the program ends. */
#ifndef COMMON_SETTINGS_H
#define COMMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum setting_type {
    SETTING_TEXT,    /* const char *; NULL when unset and without default; empty counts as unset */
    SETTING_NUMBER,  /* long, within [minimum, maximum] */
    SETTING_FLAG,    /* bool: `0` or `1` */
    SETTING_CHOICE,  /* int: index of the value in `choices` */
    SETTING_LIST,    /* struct setting_list */
    SETTING_SECRET,  /* as TEXT, masked by --check */
    SETTING_CONNINFO /* as TEXT, a libpq connection string: its password is masked by --check */
};

/* A comma-separated list, or `@path`: a file (no pipe, which could not be read again) of text in
 * which entries stand one a line or separated by commas, with blank lines and comments (`#` at the
 * start of a line or behind white space). Entries are trimmed, empty ones dropped. */
struct setting_list {
    char **items; /* `count` strings */
    size_t count;
    const char *path; /* of the file, or NULL */
    bool broken;      /* the file could not be used at the last settings_list_reread */
};

struct setting {
    const char *name;
    enum setting_type type;
    const char *fallback; /* the default, as text; NULL: none */
    long minimum, maximum;
    const char *const *choices; /* CHOICE: ends with NULL */
    const char *meaning;        /* one line for --settings */
    size_t offset;              /* of the field in the program's configuration */
};

/* What every program has. The first member of each program's configuration. */
struct settings_common {
    const char *spool;           /* SPOOL */
    int log_level;               /* LOG_LEVEL: an enum log_level */
    long ready_fd;               /* READY_FD: -1 when unset */
    const char *metrics_file;    /* METRICS_FILE: NULL when unset */
    const char *metrics_service; /* METRICS_SERVICE: NULL when unset */
};

/* The rows for it, to be placed in a program's table: `config` is the program's struct, `member`
 * the struct settings_common in it. */
extern const char *const settings_log_levels[];
#define SETTINGS_COMMON(config, member)                                                            \
    {.name = "SPOOL",                                                                              \
     .type = SETTING_TEXT,                                                                         \
     .fallback = "/var/spool/mayfly",                                                              \
     .meaning = "spool directory",                                                                 \
     .offset = offsetof(config, member.spool)},                                                    \
        {.name = "LOG_LEVEL",                                                                      \
         .type = SETTING_CHOICE,                                                                   \
         .fallback = "info",                                                                       \
         .choices = settings_log_levels,                                                           \
         .meaning = "least urgent level that is logged",                                           \
         .offset = offsetof(config, member.log_level)},                                            \
        {.name = "READY_FD",                                                                       \
         .type = SETTING_NUMBER,                                                                   \
         .minimum = 3,                                                                             \
         .maximum = 65535,                                                                         \
         .meaning = "descriptor that gets a newline when the program is ready",                    \
         .offset = offsetof(config, member.ready_fd)},                                             \
        {.name = "METRICS_FILE",                                                                   \
         .type = SETTING_TEXT,                                                                     \
         .meaning = "file of Prometheus metrics, replaced every few seconds",                      \
         .offset = offsetof(config, member.metrics_file)},                                         \
    {                                                                                              \
        .name = "METRICS_SERVICE", .type = SETTING_TEXT,                                           \
        .meaning = "label of all metrics, service, to tell several of a program on a host apart",  \
        .offset = offsetof(config, member.metrics_service)                                         \
    }

/* Fills `config` from the environment and `.env`. A NUMBER that is unset and has no fallback
 * becomes -1, a FLAG false, a CHOICE -1, a LIST empty. Returns 0, or EX_CONFIG after an error line
 * that names each wrong variable, its value and what it may be. A variable that begins with
 * `prefix` (`SMTPD_`; NULL: no look) and is not in the table is warned of: most likely a typing
 * error. */
int settings_load(const struct setting *table, size_t count, const char *prefix, void *config);

/* Reports a value that is wrong for a reason the table cannot express, in the same words, and
 * returns EX_CONFIG. `expected` says what it may be. */
int settings_refuse(const struct setting *table, size_t count, const char *name,
                    const char *expected);

/* Reads a list's file again (SIGHUP). Without a file nothing happens. `valid` (NULL: all are) says
 * whether an entry may stand in it. When the file cannot be read, or an entry is not valid, the old
 * entries stay, `broken` is set, an error is logged, and false returned; `broken` ends with the next
 * success. */
bool settings_list_reread(struct setting_list *list, const char *name,
                          bool (*valid)(const char *item));

/* Prints the names and defaults for --help, in two columns: all of them are to fit a screen. */
void settings_print_names(const struct setting *table, size_t count, FILE *out);

/* Prints the table for --settings: name, default, meaning. */
void settings_print_table(const struct setting *table, size_t count, FILE *out);

/* Prints `NAME=value` of each setting in force for --check, secrets masked. */
void settings_print_values(const struct setting *table, size_t count, FILE *out);

#endif
