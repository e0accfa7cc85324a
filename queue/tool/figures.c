/* Figures for tables: see the header. */
#include "queue/tool/figures.h"

#include <inttypes.h>
#include <stdio.h>

void figure_age(char text[static FIGURE_SIZE], int64_t microseconds)
{
    int64_t seconds = microseconds > 0 ? microseconds / 1000000 : 0;
    int64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

    if (seconds < 60)
        snprintf(text, FIGURE_SIZE, "%" PRId64 "s", seconds);
    else if (minutes < 60)
        snprintf(text, FIGURE_SIZE, "%" PRId64 "m", minutes);
    else if (days < 1)
        snprintf(text, FIGURE_SIZE, "%" PRId64 "h%02" PRId64 "m", hours, minutes % 60);
    else if (days < 10)
        snprintf(text, FIGURE_SIZE, "%" PRId64 "d%02" PRId64 "h", days, hours % 24);
    else
        snprintf(text, FIGURE_SIZE, "%" PRId64 "d", days);
}

void figure_bytes(char text[static FIGURE_SIZE], uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes / 1024;
    int unit = 0;

    if (bytes < 1000) {
        snprintf(text, FIGURE_SIZE, "%" PRIu64, bytes);
        return;
    }
    for (; value >= 999.5; unit++)
        value /= 1024;
    snprintf(text, FIGURE_SIZE, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}
