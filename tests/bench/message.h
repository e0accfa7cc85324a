/* The mail that is measured with: text that no file system and no table can make much smaller than
 * three quarters, in lines as an encoded attachment has them. */
#ifndef TESTS_BENCH_MESSAGE_H
#define TESTS_BENCH_MESSAGE_H

#include <stddef.h>

/* Fills `size` bytes with random lines of base64, the last of which ends as well. No line begins
 * with a dot. */
void message_text(char *text, size_t size);

/* The same behind a small header. `size` is at least message_smallest(). */
void message_make(char *message, size_t size);
size_t message_smallest(void);

#endif
