/* UTF-8: see the header. */
#include "common/utf8.h"

size_t utf8_sequence(struct slice text)
{
    static const struct {
        unsigned char first, last, second_first, second_last;
        size_t length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    const unsigned char *octets = (const unsigned char *)text.start;

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (octets[0] < forms[i].first || octets[0] > forms[i].last)
            continue;
        if (text.length < forms[i].length || octets[1] < forms[i].second_first ||
            octets[1] > forms[i].second_last)
            return 0;
        for (size_t k = 2; k < forms[i].length; k++)
            if (octets[k] < 0x80 || octets[k] > 0xbf)
                return 0;
        return forms[i].length;
    }
    return 0;
}
