/* What every tool of the benchmark needs: clocks, percentiles, and the numbers of its options. */
#ifndef TESTS_BENCH_MEASURE_H
#define TESTS_BENCH_MEASURE_H

#include <stddef.h>

/* Seconds of a clock that nobody sets. */
double measure_now(void);

/* Seconds of CPU that this process has used so far, as user and as system. */
double measure_cpu(void);

/* Sorts, as measure_percentile needs it. */
void measure_sort(double *values, size_t count);

/* The smallest of the sorted values that `part` (0 to 1) of them do not exceed; 0 of none. */
double measure_percentile(const double *sorted, size_t count, double part);

/* The number that option `letter` was given, or the end with exit code 64 and a word when it is
 * none, or beyond the bounds. */
size_t measure_count(int letter, const char *text, size_t minimum, size_t maximum);
double measure_number(int letter, const char *text, double minimum, double maximum);

/* Ends with exit code 71 and what errno says. */
void measure_die(const char *what) __attribute__((noreturn));

#endif
