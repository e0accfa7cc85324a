/* What the fuzz targets have in common: a law that ends the run when it is broken, and inputs in
 * pieces. A target must say the same of the same input each time, or a finding cannot be made to
 * happen again: nothing here is random. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's, which it calls; declared for -Wmissing-prototypes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A law. The stack that the sanitizer prints behind it says which target and which input. */
#define LAW(condition)                                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A copy with nothing around it, so that a sanitizer sees any look beyond what was given. Owned by
 * the caller. */
static inline char *fuzz_copy(const void *bytes, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    LAW(copy != NULL);
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

/* As above for a piece of an input, in `octet` if it is but one: they are many, and the compiler
 * guards what is around a variable as well. For fuzz_let_go. */
static inline char *fuzz_hold(const char *bytes, size_t length, char octet[static 1])
{
    if (length != 1)
        return fuzz_copy(bytes, length);
    octet[0] = bytes[0];
    return octet;
}

static inline void fuzz_let_go(char *held, const char octet[static 1])
{
    if (held != octet)
        free(held);
}

/* How an input is cut: whole, octet by octet, or at places that follow from the input itself, so
 * that a seed is the plain input. */
enum fuzz_cut { FUZZ_WHOLE, FUZZ_OCTETS, FUZZ_PIECES, FUZZ_CUT_COUNT };

/* The length of the next piece of the `left` octets from `bytes` on; at least 1. */
static inline size_t fuzz_piece(enum fuzz_cut cut, const char *bytes, size_t left)
{
    size_t hash = left;

    if (cut == FUZZ_WHOLE || left == 1)
        return left;
    if (cut == FUZZ_OCTETS)
        return 1;
    for (size_t i = 0; i < left && i < 8; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
    hash = 1 + (hash >> 8) % (hash % 5 == 0 ? 300 : 7);
    return hash < left ? hash : left;
}

#endif
