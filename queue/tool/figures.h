/* Ages and sizes in as few characters as a table has for them. Pure. */
#ifndef QUEUE_TOOL_FIGURES_H
#define QUEUE_TOOL_FIGURES_H

#include <stdint.h>

enum { FIGURE_SIZE = 24 };

/* `59s`, `59m`, `23h59m`, `6d23h`, `365d`; what is yet to come is 0s. */
void figure_age(char text[static FIGURE_SIZE], int64_t microseconds);

/* `999`, `1.0K`, `25K`, `1.5M`, `3G`: units of 1024 bytes. */
void figure_bytes(char text[static FIGURE_SIZE], uint64_t bytes);

#endif
