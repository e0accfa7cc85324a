/* What every Mayfly program does around its work: options, settings, signals, readiness, metrics,
 * an orderly stop. main.c of a program is one struct program and a call.
 *
 * Loop thread only, but for program_main itself. */
#ifndef COMMON_PROGRAM_H
#define COMMON_PROGRAM_H

#include "common/metrics.h"
#include "common/settings.h"

#include <stdbool.h>
#include <uv.h>

/* Seconds from the first SIGTERM or SIGINT until the program ends whatever is in hand. */
enum { PROGRAM_STOP_SECONDS = 10 };

struct program {
    const char *name;    /* `smtpd`: in --help, --version */
    const char *summary; /* one line for --help */
    const char *prefix;  /* of its own settings, `SMTPD_`: see settings_load */
    const struct setting *settings;
    size_t settings_count;
    void *config;                     /* begins with a struct settings_common */
    const struct metric_set *metrics; /* NULL: none */

    /* Checks what the settings table cannot: 0, or EX_CONFIG after saying why. May be NULL. */
    int (*check)(void *config);
    /* What has to be done before there is a loop: 0, or a sysexits code after saying why. May be
     * NULL. */
    int (*prepare)(void *config);
    /* Starts the work on the loop: 0, or a sysexits code after saying why; what was begun then need
     * not be undone. */
    int (*start)(uv_loop_t *loop, void *config);
    /* Begins the end: finish what is in hand, then close every handle. The program exits when its
     * loop is empty, or PROGRAM_STOP_SECONDS later. Called once. */
    void (*stop)(void);
    /* SIGHUP. May be NULL: ignored then. */
    void (*reload)(void);
};

/* Runs the program; returns what main returns. Exit codes: 0 stopped on request, else sysexits.h.
 * SIGPIPE is ignored. A second SIGTERM or SIGINT exits at once with 0. */
int program_main(const struct program *program, int argc, char **argv);

/* Ready: writes a newline to READY_FD and closes it, the first time only; logs `event=ready`. */
void program_ready(void);

/* Ends the program as a signal would, but with this exit code. For what only the operator can mend.
 */
void program_fail(int exit_code);

/* True from the first signal (or program_fail) on. */
bool program_stopping(void);

#endif
