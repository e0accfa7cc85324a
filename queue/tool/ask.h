/* Asking whether something dangerous is meant. */
#ifndef QUEUE_TOOL_ASK_H
#define QUEUE_TOOL_ASK_H

#include <stdbool.h>

/* Whether there is somebody to be asked: standard input is a terminal. */
bool ask_possible(void);

/* Asks on stderr, and reads a line. True for `y` and `yes`; anything else is no. */
bool ask(const char *question);

#endif
