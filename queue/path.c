/* The grammar of paths: see the header. */
#include "queue/path.h"

#include "common/ascii.h"
#include "common/utf8.h"

#include <arpa/inet.h>
#include <string.h>

/* Each take_ function returns how many octets at the start of `text` it recognises; 0 for none. */

static size_t take_while(struct slice text, bool (*accept)(char))
{
    size_t at = 0;

    while (at < text.length) {
        size_t step = 1;
        if (!ascii_is_octet(text.start[at]))
            step = utf8_sequence(slice_from(text, at));
        else if (!accept(text.start[at]))
            break;
        if (step == 0)
            break;
        at += step;
    }
    return at;
}

static bool is_atext(char c)
{
    return ascii_is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_label_octet(char c)
{
    return ascii_is_alnum(c) || c == '-' || c == '_';
}

static size_t take_dot_string(struct slice text)
{
    size_t at = 0;

    for (;;) {
        size_t atom = take_while(slice_from(text, at), is_atext);
        if (atom == 0)
            return 0;
        at += atom;
        if (at == text.length || text.start[at] != '.')
            return at;
        at++;
    }
}

static size_t take_quoted_string(struct slice text)
{
    size_t at = 1;

    while (at < text.length) {
        char c = text.start[at];
        size_t step = 1;
        if (c == '"')
            return at + 1;
        if (!ascii_is_octet(c)) {
            step = utf8_sequence(slice_from(text, at));
            if (step == 0)
                return 0;
        } else if (c == '\\') {
            if (++at == text.length || !(text.start[at] == ' ' || ascii_is_graph(text.start[at])))
                return 0;
        } else if (c != ' ' && !ascii_is_graph(c)) {
            return 0;
        }
        at += step;
    }
    return 0;
}

static bool has_non_ascii(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if (!ascii_is_octet(text.start[i]))
            return true;
    return false;
}

/* The DNS limit counts the ASCII form of a label, which a UTF-8 label only bounds from below. */
static bool label_fits(struct slice label)
{
    return label.length > 0 && label.start[0] != '-' && label.start[label.length - 1] != '-' &&
           (label.length <= PATH_LABEL_MAX || has_non_ascii(label));
}

static size_t take_domain_name(struct slice text)
{
    size_t at = 0;

    for (;;) {
        size_t label = take_while(slice_from(text, at), is_label_octet);
        if (!label_fits(slice_make(text.start + at, label)))
            return 0;
        at += label;
        if (at == text.length || text.start[at] != '.')
            return at <= PATH_DOMAIN_MAX ? at : 0;
        at++;
    }
}

static size_t take_literal(struct slice text)
{
    const char *end = text.length > 0 ? memchr(text.start, ']', text.length) : NULL;
    const struct slice tag = slice_of("[IPv6:");
    char address[INET6_ADDRSTRLEN];
    unsigned char binary[16];
    struct slice inner;
    int family = AF_INET;

    if (end == NULL || text.start[0] != '[')
        return 0;
    inner = slice_make(text.start + 1, (size_t)(end - text.start) - 1);
    if (slice_starts_nocase(text, tag)) {
        family = AF_INET6;
        inner = slice_from(inner, tag.length - 1);
    }
    if (inner.length >= sizeof address || memchr(inner.start, '\0', inner.length) != NULL)
        return 0;
    memcpy(address, inner.start, inner.length);
    address[inner.length] = '\0';
    return inet_pton(family, address, binary) == 1 ? (size_t)(end - text.start) + 1 : 0;
}

static size_t take_domain(struct slice text)
{
    return text.length > 0 && text.start[0] == '[' ? take_literal(text) : take_domain_name(text);
}

/* `@a.example,@b.example:` before a mailbox, which RFC 5321 (section 4.1.1.3, appendix C) has a
 * server accept and ignore. */
static bool take_source_route(struct slice text, size_t *taken)
{
    size_t at = 0;

    *taken = 0;
    if (text.length == 0 || text.start[0] != '@')
        return true;
    for (;;) {
        size_t domain;
        if (at == text.length || text.start[at] != '@')
            return false;
        domain = take_domain(slice_from(text, ++at));
        at += domain;
        if (domain == 0 || at == text.length)
            return false;
        if (text.start[at] == ':') {
            *taken = at + 1;
            return true;
        }
        if (text.start[at++] != ',')
            return false;
    }
}

/* Local-part [ "@" Domain ], up to but not including `>`. */
static size_t take_mailbox(struct slice text, struct path *path)
{
    bool quoted = text.length > 0 && text.start[0] == '"';
    size_t local = quoted ? take_quoted_string(text) : take_dot_string(text);
    size_t domain;

    if (local == 0 || local > PATH_LOCAL_MAX || local == text.length)
        return 0;
    path->local = slice_make(text.start, local);
    path->mailbox = path->local;
    path->domain = slice_make(text.start + local, 0);
    if (text.start[local] != '@')
        return local;
    domain = take_domain(slice_from(text, local + 1));
    if (domain == 0)
        return 0;
    path->domain = slice_make(text.start + local + 1, domain);
    path->mailbox.length = local + 1 + domain;
    return path->mailbox.length;
}

static bool parse_brackets(struct slice input, struct path *path, struct slice *rest)
{
    size_t route, mailbox;

    *path = (struct path){0};
    if (input.length == 0 || input.start[0] != '<')
        return false;
    input = slice_from(input, 1);
    if (!take_source_route(input, &route))
        return false;
    input = slice_from(input, route);
    if (input.length > 0 && input.start[0] == '>' && route == 0) {
        *rest = slice_from(input, 1);
        return true;
    }
    mailbox = take_mailbox(input, path);
    if (mailbox == 0 || mailbox == input.length || input.start[mailbox] != '>')
        return false;
    path->non_ascii = has_non_ascii(path->mailbox);
    *rest = slice_from(input, mailbox + 1);
    return true;
}

bool path_parse_reverse(struct slice input, struct path *path, struct slice *rest)
{
    return parse_brackets(input, path, rest) &&
           (path->mailbox.length == 0 || path->domain.length > 0);
}

bool path_parse_forward(struct slice input, struct path *path, struct slice *rest)
{
    return parse_brackets(input, path, rest) && path->mailbox.length > 0 &&
           (path->domain.length > 0 || path_is_postmaster(path));
}

bool path_is_postmaster(const struct path *path)
{
    return slice_equals_nocase(path->local, slice_of("postmaster"));
}

bool path_is_domain(struct slice text)
{
    return text.length > 0 && take_domain_name(text) == text.length;
}

bool path_is_literal(struct slice text)
{
    return text.length > 0 && take_literal(text) == text.length;
}
