/* Replies on their way: see the header. */
#include "smtpd/output.h"

#include <stdlib.h>
#include <string.h>

struct output_chunk {
    uv_write_t request;
    size_t length;
    char bytes[];
};

static void wrote_cb(uv_write_t *request, int status)
{
    struct output *output = request->data;

    free(output->first);
    output->first = output->second;
    output->second = NULL;
    output->writing = false;
    if (status == 0 && output->first != NULL && !output_release(output))
        status = UV_ECONNRESET;
    if (!uv_is_closing((uv_handle_t *)output->stream) && (status != 0 || !output_pending(output)))
        output->drained_cb(output, status);
}

bool output_release(struct output *output)
{
    struct output_chunk *chunk = output->first;
    uv_buf_t bytes = uv_buf_init(chunk->bytes, (unsigned)chunk->length);

    chunk->request.data = output;
    output->writing = uv_write(&chunk->request, output->stream, &bytes, 1, wrote_cb) == 0;
    return output->writing;
}

/* What libuv is writing cannot be moved, so more has to wait behind it. */
static bool keep(struct output *output, const char *bytes, size_t length)
{
    struct output_chunk **place = output->writing ? &output->second : &output->first;
    size_t before = *place != NULL ? (*place)->length : 0;
    struct output_chunk *chunk = realloc(*place, sizeof *chunk + before + length);

    if (chunk == NULL)
        return false;
    memcpy(chunk->bytes + before, bytes, length);
    chunk->length = before + length;
    *place = chunk;
    return true;
}

bool output_write(struct output *output, const char *bytes, size_t length, bool hold)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): gives up const */
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)length);
    int sent;

    if (hold || output_pending(output))
        return keep(output, bytes, length);
    sent = uv_try_write(output->stream, &buffer, 1);
    if (sent == UV_EAGAIN)
        sent = 0;
    if (sent < 0)
        return false;
    if ((size_t)sent == length)
        return true;
    return keep(output, bytes + sent, length - (size_t)sent) && output_release(output);
}

bool output_pending(const struct output *output)
{
    return output->first != NULL;
}

void output_free(struct output *output)
{
    free(output->first);
    free(output->second);
    output->first = NULL;
    output->second = NULL;
}
