/* Clocks and numbers: see the header. */
#include "tests/bench/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double measure_now(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

double measure_cpu(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

void measure_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

double measure_percentile(const double *sorted, size_t count, double part)
{
    if (count == 0)
        return 0;
    double exact = part * (double)count;
    size_t rank = (size_t)exact + (exact > (double)(size_t)exact);
    return sorted[rank > 0 ? rank - 1 : 0];
}

static void refuse(int letter, const char *text, double minimum, double maximum)
{
    fprintf(stderr, "%s: -%c %s: it takes a number from %.15g to %.15g\n",
            program_invocation_short_name, letter, text, minimum, maximum);
    exit(EX_USAGE);
}

size_t measure_count(int letter, const char *text, size_t minimum, size_t maximum)
{
    errno = 0;
    unsigned long number = strtoul(text, NULL, 10);
    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0' || errno != 0 ||
        number < minimum || number > maximum)
        refuse(letter, text, (double)minimum, (double)maximum);
    return number;
}

double measure_number(int letter, const char *text, double minimum, double maximum)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(number >= minimum && number <= maximum))
        refuse(letter, text, minimum, maximum);
    return number;
}

void measure_die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(EX_OSERR);
}
