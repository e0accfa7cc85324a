/* The end of data, dot-stuffing and what is counted, against a plain reading of RFC 5321, section
 * 4.5.2, in any fragmentation: the place where mail is smuggled when a server is lax. */
#include "smtpd/data.h"
#include "common/ascii.h"

#include "fuzz.h"

struct outcome {
    char *content; /* of room for as many octets as the input has, and one */
    size_t length;
    size_t used;
    uint32_t received;
    bool ended;
};

/* Cut into lines at CRLF; a line of one dot ends; a dot at the start of another is removed. */
static void read_plainly(const char *input, size_t length, struct outcome *want)
{
    size_t at = 0;

    while (at < length) {
        const char *end = memmem(input + at, length - at, "\r\n", 2);
        size_t next = end != NULL ? (size_t)(end - input) + 2 : length;
        size_t from = at + (input[at] == '.' ? 1 : 0);

        if (end == input + at + 1 && input[at] == '.') {
            want->ended = true;
            want->used = next;
            return;
        }
        memcpy(want->content + want->length, input + from, next - from);
        want->length += next - from;
        at = next;
    }
    want->used = length;
}

/* Fields are lines of the content up to the first empty one. */
static void count_received(struct outcome *want)
{
    const struct slice name = slice_of("received:");
    struct slice rest = slice_make(want->content, want->length);

    while (rest.length > 0) {
        const char *end = memmem(rest.start, rest.length, "\r\n", 2);

        if (end == rest.start)
            return;
        if (slice_starts_nocase(rest, name))
            want->received++;
        if (end == NULL)
            return;
        rest = slice_from(rest, (size_t)(end - rest.start) + 2);
    }
}

static void take(struct data *data, const char *bytes, size_t length, struct outcome *got)
{
    char octet[1], *exact = fuzz_hold(bytes, length, octet);
    size_t used = 0;

    while (used < length && !data_ended(data)) {
        struct slice content;
        size_t step = data_feed(data, exact + used, length - used, &content);

        LAW(step <= length - used);
        LAW(content.length <= step + 1);
        LAW(step > 0 || content.length > 0);
        if (content.length > 0)
            memcpy(got->content + got->length, content.start, content.length);
        got->length += content.length;
        used += step;
    }
    got->used += used;
    fuzz_let_go(exact, octet);
}

static void read_in_pieces(enum fuzz_cut cut, const char *input, size_t length,
                           const struct outcome *want)
{
    struct outcome got = {.content = malloc(length + 1)};
    struct data data = {0};
    size_t withheld;

    LAW(got.content != NULL);
    for (size_t at = 0; at < length && !data_ended(&data);) {
        size_t piece = fuzz_piece(cut, input + at, length - at);
        take(&data, input + at, piece, &got);
        at += piece;
    }
    /* The input may end in what could become the end: the CR is withheld then. */
    withheld = data.state == DATA_DOT_CR ? 1 : 0;
    LAW(data_ended(&data) == want->ended);
    LAW(got.used == want->used);
    LAW(got.length + withheld == want->length);
    LAW(memcmp(got.content, want->content, got.length) == 0);
    LAW(data.size == got.length);
    LAW(data.received == want->received);
    free(got.content);
}

/* The same octets as chunks (RFC 3030): all of them are content. */
static void read_as_chunks(enum fuzz_cut cut, char *input, size_t length)
{
    struct outcome want = {.content = input, .length = length};
    struct data data = {0};

    count_received(&want);
    for (size_t at = 0, piece; at < length; at += piece) {
        char octet[1], *exact;
        piece = fuzz_piece(cut, input + at, length - at);
        exact = fuzz_hold(input + at, piece, octet);
        data_count(&data, exact, piece);
        fuzz_let_go(exact, octet);
        LAW(!data_ended(&data));
    }
    LAW(data.size == length && data.received == want.received);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *input = fuzz_copy(bytes, size);
    struct outcome want = {.content = malloc(size + 1)};

    LAW(want.content != NULL);
    read_plainly(input, size, &want);
    count_received(&want);
    for (enum fuzz_cut cut = FUZZ_WHOLE; cut < FUZZ_CUT_COUNT; cut++) {
        read_in_pieces(cut, input, size, &want);
        read_as_chunks(cut, input, size);
    }
    free(want.content);
    free(input);
    return 0;
}
