/* Character classes of the SMTP grammar. <ctype.h> answers by the locale and is undefined for
 * negative chars; the protocol is ASCII, always. Pure. */
#ifndef COMMON_ASCII_H
#define COMMON_ASCII_H

#include <stdbool.h>

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool ascii_is_alnum(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

/* Printable and not a space. */
static inline bool ascii_is_graph(char c)
{
    return c > ' ' && c <= '~';
}

static inline bool ascii_is_octet(char c)
{
    return (unsigned char)c < 0x80;
}

static inline char ascii_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

#endif
