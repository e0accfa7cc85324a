/* A password or token in a file: its first line. Blocks no longer than a disk does: anything but a
 * file is refused. */
#ifndef RELAY_CREDENTIALS_H
#define RELAY_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

enum { CREDENTIALS_SIZE = 8 * 1024, CREDENTIALS_REASON_SIZE = 100 };

/* Reads the first line of a file, without its line end, into `secret`, terminated; the caller wipes
 * it. False when there is none to be had, with `secret` wiped and why in `reason`, which neither
 * names the file nor quotes it. */
bool credentials_read(const char *path, char secret[static CREDENTIALS_SIZE],
                      char reason[static CREDENTIALS_REASON_SIZE]);

#endif
