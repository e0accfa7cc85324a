/* UUIDv7 ids: see the header. */
#include "queue/id.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char hex_digits[] = "0123456789abcdef";

static bool is_hyphen_place(int i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

void id_make(char id[static ID_SIZE], int64_t received)
{
    uint64_t milliseconds = (uint64_t)(received / 1000);
    /* The microseconds within the millisecond, scaled to the 12 bits of rand_a. */
    unsigned fraction = (unsigned)(received % 1000) * 4096 / 1000;

    unsigned char bytes[16];
    /* Blocks only before the kernel's pool is first filled, at boot; then it cannot fail for so few
     * bytes. An id that is not unique could lose a message, so there is no second source. */
    if (getrandom(bytes + 8, 8, 0) != 8)
        abort();
    for (int i = 0; i < 6; i++)
        bytes[i] = (unsigned char)(milliseconds >> (40 - 8 * i));
    bytes[6] = (unsigned char)(0x70 | fraction >> 8);
    bytes[7] = (unsigned char)fraction;
    bytes[8] = (unsigned char)(0x80 | (bytes[8] & 0x3f));

    char *out = id;
    for (int i = 0; i < 16; i++) {
        if (is_hyphen_place((int)(out - id)))
            *out++ = '-';
        *out++ = hex_digits[bytes[i] >> 4];
        *out++ = hex_digits[bytes[i] & 15];
    }
    *out = '\0';
}

/* The value of a lower-case hexadecimal digit, or -1: an id has one spelling, for it is a file
 * name. */
static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

int64_t id_time(const char *id)
{
    uint64_t milliseconds = 0;
    for (int i = 0; i < 13; i++) {
        if (!is_hyphen_place(i))
            milliseconds = milliseconds << 4 | ((unsigned)hex_value(id[i]) & 0xf);
    }
    return (int64_t)milliseconds * 1000;
}

bool id_valid(const char *text)
{
    if (strnlen(text, ID_SIZE) != ID_LENGTH)
        return false;
    for (int i = 0; i < ID_LENGTH; i++) {
        if (is_hyphen_place(i) ? text[i] != '-' : hex_value(text[i]) < 0)
            return false;
    }
    return text[14] == '7' && (hex_value(text[19]) & 0xc) == 0x8;
}
