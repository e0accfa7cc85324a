/* Lines of a mail message that are made of what others said: folded, bounded, and of the bytes that
 * the message may have. Pure. */
#ifndef RELAY_LINES_H
#define RELAY_LINES_H

#include "common/buffer.h"
#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Appends `words` to a line that has begun, and ends it with CRLF. It is folded at spaces before 78
 * octets where the words allow it, and longer words are cut into several; each further line begins
 * with `indent`. Control characters and bytes that are not UTF-8 become `?`, and so that no reader
 * decodes it `=?` is taken apart; other than ASCII becomes \x{20AC} (RFC 6533, section 3) unless
 * `utf8`. */
void lines_fold(struct buffer *out, const char *words, const char *indent, bool utf8);

/* Appends an address: as it is, or in the form utf-8-addr-xtext (RFC 6533, section 3), or with
 * `utf8` utf-8-addr-unitext. What has no room in a line of 998 octets is cut. */
void lines_address(struct buffer *out, const char *address, bool utf8);

/* How much of `text`, the start of a message, is the header: up to its empty line or its end, in
 * whole lines where it is longer than `max`. */
struct slice lines_header(struct slice text, size_t max);

/* Whether a header can be sent as it is: well-formed lines of at most 998 octets, ASCII unless
 * `utf8`, none of which could be taken for a boundary. Line ends are not looked at. */
bool lines_are_plain(struct slice header, bool utf8);

/* Appends a header, in CRLF lines as it is, or quoted-printable (RFC 2045, section 6.7). */
void lines_append(struct buffer *out, struct slice header);
void lines_quote(struct buffer *out, struct slice header);

#endif
