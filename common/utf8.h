/* UTF-8 (RFC 3629). Pure; any thread. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include "common/slice.h"

#include <stddef.h>

/* Octets of the sequence of more than one octet at the start of `text`, which is not empty; 0 when
 * it is none (overlong forms, surrogates and what lies beyond U+10FFFF are none). */
size_t utf8_sequence(struct slice text);

#endif
