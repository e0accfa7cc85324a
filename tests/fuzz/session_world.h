/* The world around a server, as far as an input may have a say in it: a clock that stands still
 * until it is moved, a disk that takes its time and may fail, memory that may run out, and a log
 * that is read. In their places stand the functions of the C library, of libuv and of the linker
 * (-Wl,--wrap) that smtpd calls. So a run depends on nothing but its input (and on the randomness of
 * TLS), and takes no time but its own.
 *
 * The certificate of a server that starts is read once in all runs, for that takes as long as ten
 * sessions; when it is read again on SIGHUP, it is. */
#ifndef TESTS_FUZZ_SESSION_WORLD_H
#define TESTS_FUZZ_SESSION_WORLD_H

#include "fuzz.h"

enum world_fault { WORLD_WRITE_FAILS, WORLD_SYNC_FAILS, WORLD_RENAME_FAILS, WORLD_FAULT_COUNT };

/* Everything as it is at the start of a run; the clock too. */
void world_reset(void);

/* Whether smtpd is running: what the target itself calls never fails. */
void world_enter(void);
void world_leave(void);

/* Moves the clock that deadlines go by. */
void world_pass(uint64_t milliseconds);

/* The next such call behind `count` others fails: there is no space. */
void world_fail(enum world_fault fault, unsigned count);

/* The allocation behind `count` others fails. */
void world_starve(unsigned count);

/* No fault any more. */
void world_heal(void);

/* Does one piece of the work that waits for the thread pool, and tells its owner; `which` chooses
 * among those that wait, as threads overtake each other. False when none waits. */
bool world_work(unsigned which);

#endif
