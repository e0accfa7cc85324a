/* Replies on their way to a client. What the client takes at once costs nothing; the rest is kept,
 * in order, until it does. Bounded because no input is used while replies wait: only an event (a
 * commit that is done, a shutdown) can add to them. Loop thread only. */
#ifndef SMTPD_OUTPUT_H
#define SMTPD_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct output_chunk;

/* All zero but for `stream` and `drained_cb` is an output with nothing to send. */
struct output {
    uv_stream_t *stream;
    struct output_chunk *first;  /* with libuv when `writing`, else held back */
    struct output_chunk *second; /* behind it, while libuv has that */
    bool writing;
    /* All that waited is sent (0), or the connection is lost (a libuv error). Not called after
     * uv_close(stream). */
    void (*drained_cb)(struct output *output, int status);
};

/* Sends bytes; with `hold`, or behind others, keeps them. False when the connection is lost. */
bool output_write(struct output *output, const char *bytes, size_t length, bool hold);

/* Begins to send what was held back. False when the connection is lost. */
bool output_release(struct output *output);

/* True while anything waits, here or with libuv. */
bool output_pending(const struct output *output);

/* Frees what is kept. libuv has called back: at the earliest in the close callback of the stream.
 */
void output_free(struct output *output);

#endif
