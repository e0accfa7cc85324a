/* Files of a queue: what envelope_parse makes of any bytes, and that reader_open judges a file of
 * them the same way. */
#include "queue/envelope.h"
#include "queue/reader.h"

#include "fuzz.h"
#include "scratch.h"

#include <fcntl.h>
#include <unistd.h>

/* The name under which every input is looked at; one that carries another id is forged. */
static const char name[] = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10";

static struct spool spool;

static bool is_within(const struct envelope *envelope, const char *text, size_t consumed)
{
    return text >= envelope->storage && text < envelope->storage + consumed &&
           memchr(text, '\0', (size_t)(envelope->storage + consumed - text)) != NULL;
}

static void check_strings(const struct envelope *envelope, size_t consumed)
{
    const char *texts[] = {envelope->id, envelope->client_address, envelope->helo,
                           envelope->protocol, envelope->from};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        LAW(is_within(envelope, texts[i], consumed));
    LAW(envelope->recipients_count > 0 && envelope->recipients_count < consumed);
    for (size_t i = 0; i < envelope->recipients_count; i++)
        LAW(is_within(envelope, envelope->recipients[i], consumed));
    LAW(id_valid(envelope->id) && envelope->client_port <= 65535 && envelope->received >= 0);
}

static void check_same(const struct envelope *a, const struct envelope *b)
{
    LAW(strcmp(a->id, b->id) == 0 && a->received == b->received && a->size == b->size);
    LAW(strcmp(a->client_address, b->client_address) == 0 && a->client_port == b->client_port);
    LAW(strcmp(a->helo, b->helo) == 0 && strcmp(a->protocol, b->protocol) == 0);
    LAW(strcmp(a->from, b->from) == 0 && a->recipients_count == b->recipients_count);
    for (size_t i = 0; i < a->recipients_count; i++)
        LAW(strcmp(a->recipients[i], b->recipients[i]) == 0);
}

/* Whether the text has the port in more digits than it needs: nothing else has two spellings. */
static bool has_long_port(const char *bytes, size_t consumed)
{
    static const char client[] = "X-Envelope-Client: ";
    const char *line = memmem(bytes, consumed, client, sizeof client - 1);
    const char *port;

    LAW(line != NULL);
    port = strchr(line + sizeof client - 1, ' ') + 1;
    return port[0] == '0' && port[1] != '\r';
}

/* What was read can be written, and reads the same again; a shorter text is not enough for it. */
static void check_again(const struct envelope *envelope, const char *bytes, size_t consumed)
{
    struct envelope again;
    struct buffer out;
    const char *why;
    size_t end;

    buffer_init(&out, ENVELOPE_MAX);
    LAW(envelope_encode(envelope, &out) && !out.failed);
    LAW(envelope_parse(&again, out.data, out.length, &end, &why) == ENVELOPE_OK);
    LAW(end == out.length);
    LAW((end == consumed && memcmp(out.data, bytes, consumed) == 0) ||
        has_long_port(bytes, consumed));
    check_same(envelope, &again);
    envelope_free(&again);
    buffer_free(&out);
    LAW(envelope_parse(&again, bytes, consumed - 1, &end, &why) == ENVELOPE_INCOMPLETE);
}

static enum envelope_status check_envelope(const char *bytes, size_t size, bool *whole,
                                           size_t *consumed)
{
    char *exact = fuzz_copy(bytes, size);
    struct envelope envelope;
    const char *why = NULL;
    enum envelope_status status = envelope_parse(&envelope, exact, size, consumed, &why);

    LAW(status == ENVELOPE_OK || status == ENVELOPE_BAD || status == ENVELOPE_INCOMPLETE);
    LAW(status != ENVELOPE_BAD || why != NULL);
    *whole = false;
    if (status == ENVELOPE_OK) {
        LAW(*consumed > 0 && *consumed <= size);
        check_strings(&envelope, *consumed);
        check_again(&envelope, exact, *consumed);
        *whole = strcmp(envelope.id, name) == 0 && envelope.size == size - *consumed;
        envelope_free(&envelope);
    }
    free(exact);
    return status;
}

static void put_file(const char *bytes, size_t size)
{
    int file = openat(spool.directories[QUEUE_STORE][QUEUE_NEW], name,
                      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, SPOOL_FILE_MODE);

    LAW(file >= 0);
    LAW(write(file, bytes, size) == (ssize_t)size);
    close(file);
}

/* Reads the message in pieces, as loaders with little room do. */
static void check_message(struct reader *reader, const char *message, size_t length)
{
    size_t at = 0;
    char octet;

    while (at < length) {
        size_t piece = fuzz_piece(FUZZ_PIECES, message + at, length - at);
        char *bytes = malloc(piece);
        LAW(bytes != NULL);
        LAW(reader_read(reader, bytes, piece) == 0);
        LAW(memcmp(bytes, message + at, piece) == 0);
        free(bytes);
        at += piece;
    }
    LAW(reader_read(reader, &octet, 1) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct reader reader;
    size_t consumed = 0;
    bool whole;
    enum reader_status read;

    check_envelope(bytes, size, &whole, &consumed);
    put_file(bytes, size);
    read = reader_open(&reader, &spool, QUEUE_STORE, QUEUE_NEW, name);
    LAW(read == (whole ? READER_OK : READER_BAD));
    if (read == READER_OK) {
        check_message(&reader, bytes + consumed, size - consumed);
        reader_close(&reader);
    } else {
        LAW(reader.why != NULL && reader.descriptor == -1);
    }
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    LAW(spool_open(&spool, scratch_make()) == 0);
    return 0;
}
