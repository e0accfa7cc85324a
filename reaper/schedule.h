/* When reaper does what: a pass over the database and a sweep of the spool at start, then each
 * REAPER_INTERVAL; a pass that could not do all it had to do comes again soon. The two know nothing
 * of each other: without a database the spool is still swept, without a spool the database reaped.
 * Ready is said when both were done once.
 *
 * Loop thread only; one in a program. */
#ifndef REAPER_SCHEDULE_H
#define REAPER_SCHEDULE_H

#include "reaper/config.h"

#include <uv.h>

/* `config` must outlive it. */
void schedule_start(uv_loop_t *loop, const struct config *config);

/* Breaks off what is under way; the loop runs empty. Call once. */
void schedule_stop(void);

#endif
