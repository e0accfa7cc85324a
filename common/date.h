/* Dates as mail has them (RFC 5322, section 3.3). Pure; any thread. */
#ifndef COMMON_DATE_H
#define COMMON_DATE_H

#include <stdint.h>

enum { DATE_SIZE = 32 };

/* `Sat, 21 Nov 2026 19:08:11 +0000`, of microseconds since the epoch, years 1970 to 9999. */
void date_format(char date[static DATE_SIZE], int64_t microseconds);

#endif
