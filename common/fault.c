/* Fault points: see the header. */
#include "common/fault.h"

#ifdef FAULTS

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FAULT_RULES = 8,
    FAULT_ERROR_MAX = 4095, /* of the kernel's */
    FAULT_HITS = 500 /* the descriptor: out of the way of whoever counts, or is given, some */
};

enum { ACTION_KILL = -1, ACTION_SHORT = -2 }; /* else an errno value */

static struct fault_rule {
    char point[64];
    int action;
    atomic_long passes; /* still to come before it strikes; below 0 when it has */
} rules[FAULT_RULES];

static size_t rule_count;
static int hits = -1;

/* By the linker, around all names; a unit test may have none. */
extern const char __start_fault_points[] __attribute__((weak, visibility("hidden")));
extern const char __stop_fault_points[] __attribute__((weak, visibility("hidden")));

/* A plan that is not understood, or of which nothing can come, would be a test that tries nothing. */
static void refuse(const char *text)
{
    fprintf(stderr, "level=error event=fault_plan_bad plan=\"%s\"\n", text);
    _exit(78);
}

static bool is_named(const char *kind, const char *name, size_t length)
{
    char wanted[80];

    snprintf(wanted, sizeof wanted, "%s %.*s", kind, (int)length, name);
    for (const char *text = __start_fault_points; text < __stop_fault_points;
         text += strlen(text) + 1) {
        if (strcmp(text, wanted) == 0)
            return true;
    }
    return false;
}

static bool has_effect(const char *point, int action)
{
    const char *end = strrchr(point, '.');
    size_t length = end != NULL ? (size_t)(end - point) : 0;

    if (is_named("point", point, strlen(point)))
        return action == ACTION_KILL;
    if (end == NULL)
        return false;
    if (strcmp(end, ".length") == 0)
        return is_named("length", point, length) && action < 0;
    return (strcmp(end, ".before") == 0 || strcmp(end, ".after") == 0) &&
           is_named("step", point, length) && action != ACTION_SHORT;
}

static bool read_number(const char *text, long least, long most, long *number)
{
    char *end;

    *number = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number >= least && *number <= most;
}

static bool read_action(const char *text, int *action)
{
    long error = 0;
    bool known = true;

    if (strcmp(text, "kill") == 0)
        *action = ACTION_KILL;
    else if (strcmp(text, "short") == 0)
        *action = ACTION_SHORT;
    else if ((known = read_number(text, 1, FAULT_ERROR_MAX, &error)))
        *action = (int)error;
    return known;
}

static void read_rule(char *text, const char *whole)
{
    char *action = strchr(text, ':'), *passes = NULL;
    struct fault_rule *rule = &rules[rule_count];
    long count = 0;

    if (rule_count == FAULT_RULES || action == NULL || action - text >= (long)sizeof rule->point)
        refuse(whole);
    *action++ = '\0';
    passes = strchr(action, ':');
    if (passes != NULL)
        *passes++ = '\0';
    memcpy(rule->point, text, strlen(text) + 1);
    if (!read_action(action, &rule->action) || !has_effect(rule->point, rule->action) ||
        (passes != NULL && !read_number(passes, 0, INT_MAX, &count)))
        refuse(whole);
    atomic_init(&rule->passes, count);
    rule_count++;
}

/* Before main, and so before a program confines itself and can open no file any more. */
__attribute__((constructor)) static void read_plan(void)
{
    const char *plan = getenv("FAULT_POINTS"), *path = getenv("FAULT_HITS");
    char *copy = strdup(plan != NULL ? plan : ""), *place = NULL;

    if (copy == NULL)
        abort();
    for (char *text = strtok_r(copy, ",", &place); text != NULL; text = strtok_r(NULL, ",", &place))
        read_rule(text, plan);
    free(copy);
    if (plan != NULL && rule_count == 0)
        refuse(plan);
    if (path == NULL)
        return;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    hits = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, FAULT_HITS);
    if (hits < 0)
        refuse(path);
    close(file);
}

/* One write, so that lines of several threads, and of several programs, do not mix. */
static void note(const char *mark, const char *point)
{
    char line[80];
    int length = snprintf(line, sizeof line, "%s%s\n", mark, point);

    if (hits >= 0 && write(hits, line, (size_t)length) != length)
        abort();
}

/* The action of the rule that strikes now, or 0. */
static int pass(const char *point)
{
    note("", point);
    for (size_t i = 0; i < rule_count; i++) {
        if (strcmp(rules[i].point, point) != 0 || atomic_fetch_sub(&rules[i].passes, 1) != 0)
            continue;
        note("!", point);
        /* By raise, which a confined program may do to itself. */
        if (rules[i].action == ACTION_KILL && raise(SIGKILL) != 0)
            abort();
        return rules[i].action;
    }
    return 0;
}

bool fault_strikes(const char *point)
{
    int error = errno;
    int action = pass(point);

    errno = action > 0 ? action : error;
    return action > 0;
}

size_t fault_shorten(const char *point, size_t length)
{
    if (length < 2)
        return length;
    return pass(point) == ACTION_SHORT ? length / 2 : length;
}

#endif
