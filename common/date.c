/* Dates: see the header. */
#include "common/date.h"

#include <time.h>

void date_format(char date[static DATE_SIZE], int64_t microseconds)
{
    time_t seconds = (time_t)(microseconds / 1000000);
    struct tm tm;

    /* No program of ours calls setlocale, so the names are the RFC's. */
    gmtime_r(&seconds, &tm);
    strftime(date, DATE_SIZE, "%a, %d %b %Y %H:%M:%S +0000", &tm);
}
