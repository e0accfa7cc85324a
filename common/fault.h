/* Fault points: the steps on which it depends that no message is lost, each with a name, so that the
 * tests can end a program before and behind every one of them, have it fail, or have it done by half.
 *
 * Only a build with -DFAULTS (make FAULTS=1) has them. In any other a macro is what it wraps: no call,
 * no name, nothing.
 *
 * Their names stand in the section `fault_points` of a program, one string each: "step NAME" of
 * FAULT_STEP and FAULT_CALL, which have the points NAME.before and NAME.after; "length NAME" of
 * FAULT_LENGTH, with NAME.length; "point NAME" of FAULT_POINT, with NAME itself.
 *
 * What happens is said by the environment when the program starts:
 *
 *     FAULT_POINTS=POINT:ACTION[:PASSES],...   behind so many passes (0), and once
 *     FAULT_HITS=FILE                          gets a line for each pass; `!POINT` when it is struck
 *
 * ACTION is `kill`; the number of an error, for what the call would have returned, at a step; or
 * `short`, at a length. At NAME.after an error is told of what was done. A program that has no such
 * point, or could do nothing of that kind there, does not start: 78. */
#ifndef COMMON_FAULT_H
#define COMMON_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef FAULTS

/* A pass of a point. Ends the process, or returns true, with errno set, when the step is to fail. */
bool fault_strikes(const char *point);

/* A pass of a length: all of it, or about half when it is to be short. */
size_t fault_shorten(const char *point, size_t length);

#define FAULT_NAME(kind, name)                                                                     \
    static const char fault_##kind[] __attribute__((section("fault_points"), used)) = #kind " " name

#define FAULT_STEP(name, call, failure)                                                            \
    __extension__({                                                                                \
        FAULT_NAME(step, name);                                                                    \
        __typeof__(call) fault_result = (failure);                                                 \
        if (!fault_strikes(name ".before")) {                                                      \
            fault_result = (call);                                                                 \
            if (fault_strikes(name ".after"))                                                      \
                fault_result = (failure);                                                          \
        }                                                                                          \
        fault_result;                                                                              \
    })

#define FAULT_LENGTH(name, whole)                                                                  \
    __extension__({                                                                                \
        FAULT_NAME(length, name);                                                                  \
        fault_shorten(name ".length", whole);                                                      \
    })

#define FAULT_POINT(name)                                                                          \
    do {                                                                                           \
        FAULT_NAME(point, name);                                                                   \
        fault_strikes(name);                                                                       \
    } while (0)

#else
#define FAULT_STEP(name, call, failure) (call)
#define FAULT_LENGTH(name, length)      (length)
#define FAULT_POINT(name)               ((void)0)
#endif

/* A system call: -1 when it fails. */
#define FAULT_CALL(name, call) FAULT_STEP(name, call, -1)

#endif
