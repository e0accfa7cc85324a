/* Paths and parameters, a line of the input each, and the list of recipients they make: what is
 * accepted lies where it came in, whole and harmless, and means the same when it is given again. */
#include "queue/path.h"
#include "smtpd/parameter.h"
#include "smtpd/recipients.h"

#include "fuzz.h"

/* Recipients are compared each with each here. */
enum { RECIPIENTS_LOOKED_AT = 32 };

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7f;
}

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if (is_control(text.start[i]))
            return true;
    return false;
}

static bool has_high(struct slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.start[i] >= 0x80)
            return true;
    return false;
}

/* RFC 3629, by value: what decodes, and could not have been written shorter. */
static bool is_utf8(struct slice text)
{
    for (size_t at = 0; at < text.length;) {
        unsigned char first = (unsigned char)text.start[at++];
        size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        unsigned long value = more == 0 ? first : first & (0x3fu >> more);
        static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};

        if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || more > text.length - at)
            return false;
        for (size_t i = 0; i < more; i++, at++) {
            if (((unsigned char)text.start[at] & 0xc0) != 0x80)
                return false;
            value = value << 6 | ((unsigned char)text.start[at] & 0x3f);
        }
        if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            return false;
    }
    return true;
}

static bool same(const struct path *a, const struct path *b)
{
    return slice_equals(a->mailbox, b->mailbox) && slice_equals(a->local, b->local) &&
           slice_equals(a->domain, b->domain) && a->non_ascii == b->non_ascii;
}

/* Where the parts lie: in the input, up to its `>`. */
static void check_place(struct slice input, const struct path *path, struct slice rest)
{
    LAW(rest.start + rest.length == input.start + input.length);
    LAW(rest.start > input.start && rest.start[-1] == '>');
    if (path->mailbox.length == 0) {
        LAW(rest.start == input.start + 2);
        return;
    }
    LAW(path->mailbox.start > input.start);
    LAW(path->mailbox.start + path->mailbox.length == rest.start - 1);
    LAW(path->mailbox.start[-1] == '<' || path->mailbox.start[-1] == ':');
    LAW(path->local.start == path->mailbox.start);
    if (path->domain.length == 0) {
        LAW(path->local.length == path->mailbox.length);
        return;
    }
    LAW(path->local.length + 1 + path->domain.length == path->mailbox.length);
    LAW(path->local.start[path->local.length] == '@');
    LAW(path->domain.start == path->local.start + path->local.length + 1);
}

static void check_content(const struct path *path)
{
    LAW(!has_control(path->mailbox));
    LAW(has_high(path->mailbox) == path->non_ascii);
    LAW(is_utf8(path->mailbox));
    LAW(path->local.length <= PATH_LOCAL_MAX && path->domain.length <= PATH_DOMAIN_MAX);
    LAW(path->domain.length == 0 || path_is_domain(path->domain) || path_is_literal(path->domain));
    LAW(path->domain.length == 0 || memchr(path->domain.start, '@', path->domain.length) == NULL);
}

typedef bool parse(struct slice input, struct path *path, struct slice *rest);

/* Alone in brackets, without what stood around it, the mailbox is the same path. */
static void check_again(parse *parse, const struct path *path)
{
    size_t length = path->mailbox.length + 2;
    char *again = malloc(length);
    struct path other;
    struct slice rest;

    LAW(again != NULL);
    again[0] = '<';
    if (path->mailbox.length > 0)
        memcpy(again + 1, path->mailbox.start, path->mailbox.length);
    again[length - 1] = '>';
    LAW(parse(slice_make(again, length), &other, &rest));
    LAW(rest.length == 0 && same(path, &other));
    LAW(!parse(slice_make(again, length - 1), &other, &rest));
    free(again);
}

static bool check_path(parse *parse, struct slice input, struct path *path, struct slice *rest)
{
    if (!parse(input, path, rest))
        return false;
    check_place(input, path, *rest);
    check_content(path);
    check_again(parse, path);
    return true;
}

/* Both kinds of path are one grammar, but for <> and <Postmaster>. */
static bool check_paths(struct slice input, struct path *path, struct slice *rest)
{
    struct path reverse;
    struct slice behind;
    bool sender = check_path(path_parse_reverse, input, &reverse, &behind);
    bool recipient = check_path(path_parse_forward, input, path, rest);

    if (sender && recipient)
        LAW(same(&reverse, path) && behind.start == rest->start);
    else if (sender)
        LAW(reverse.mailbox.length == 0);
    else if (recipient)
        LAW(path->domain.length == 0 && path_is_postmaster(path));
    if (sender && !recipient)
        *rest = behind;
    return sender || recipient;
}

static enum parameter_status parse_behind(struct slice text, struct slice more,
                                          struct parameters *parameters)
{
    char *both = malloc(text.length + more.length + 1);
    enum parameter_status status;

    LAW(both != NULL);
    if (text.length > 0)
        memcpy(both, text.start, text.length);
    if (more.length > 0)
        memcpy(both + text.length, more.start, more.length);
    status = parameter_parse_mail(slice_make(both, text.length + more.length), parameters);
    free(both);
    return status;
}

static void check_parameters(struct slice text)
{
    struct slice trimmed = slice_trim_end(text);
    struct parameters parameters, again;
    enum parameter_status status = parameter_parse_mail(text, &parameters);

    LAW((parameter_parse_rcpt(text) == PARAMETER_OK) == (trimmed.length == 0));
    if (status != PARAMETER_OK)
        return;
    LAW(trimmed.length == 0 || trimmed.start[0] == ' ');
    for (size_t i = 0; i < trimmed.length; i++) /* behind a space more white space is let pass */
        LAW(trimmed.start[i] == '\t' || (!is_control(trimmed.start[i]) && trimmed.start[i] > 0));
    LAW(parse_behind(text, slice_of(" "), &again) == PARAMETER_OK);
    LAW(again.size == parameters.size && again.utf8 == parameters.utf8);
    LAW(parse_behind(trimmed, slice_of(" X=1"), &again) == PARAMETER_UNKNOWN);
    LAW(trimmed.length == 0 || parse_behind(trimmed, trimmed, &again) == PARAMETER_BAD);
}

static bool same_recipient(const char *mailbox, const struct path *path)
{
    struct slice held = slice_of(mailbox);
    size_t local = path->local.length;

    return held.length == path->mailbox.length &&
           slice_equals(slice_make(mailbox, local), path->local) &&
           slice_equals_nocase(slice_from(held, local), slice_from(path->mailbox, local));
}

static void check_recipient(struct recipients *recipients, const struct path *path)
{
    size_t before = recipients->count, at = 0;

    while (at < before && !same_recipient(recipients->mailboxes[at], path))
        at++;
    LAW(recipients_add(recipients, path));
    LAW(recipients->count == (at < before ? before : before + 1));
    LAW(same_recipient(recipients->mailboxes[at], path));
}

static void check_line(struct slice line, struct recipients *recipients)
{
    struct path path = {0};
    struct slice rest = {0};

    if (check_paths(line, &path, &rest)) {
        check_parameters(rest);
        if (path.mailbox.length > 0 && recipients->count < RECIPIENTS_LOOKED_AT)
            check_recipient(recipients, &path);
    }
    check_parameters(line);
    if (path_is_domain(line) || path_is_literal(line))
        LAW(line.length > 0 && !has_control(line) && is_utf8(line));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipients recipients = {0};
    const char *bytes = (const char *)data;

    for (size_t at = 0; at <= size;) {
        const char *end = at < size ? memchr(bytes + at, '\n', size - at) : NULL;
        size_t length = end != NULL ? (size_t)(end - bytes) - at : size - at;
        char *exact = fuzz_copy(bytes + at, length);

        check_line(slice_make(exact, length), &recipients);
        free(exact);
        at += length + 1;
    }
    recipients_free(&recipients);
    return 0;
}
