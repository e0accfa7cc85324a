/* TLS when memory runs out: OpenSSL's allocations fail from the first, the second, and so on, while
 * a pair is loaded, while a connection is opened, and in every call of its life. What fails says so, nothing crashes,
 * and (which LeakSanitizer sees) nothing is lost. */
#include "tests/unit/tls_peer.h"

static struct peer_files files;
static bool counting;
static long left; /* allocations that go well while counting */

static bool runs_out(void)
{
    return counting && left-- <= 0;
}

static void *allocate(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return runs_out() ? NULL : malloc(size);
}

static void *reallocate(void *memory, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return runs_out() ? NULL : realloc(memory, size);
}

static void release(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    free(memory);
}

static int make_files(void **state)
{
    (void)state;
    peer_files_make(&files);
    /* In place of the allocator that the first load has put in place. */
    assert_int_equal(CRYPTO_set_mem_functions(allocate, reallocate, release), 1);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    return peer_files_remove(&files);
}

/* From here to there, all allocations but the first `number` fail. */
static void fail_behind(long number)
{
    left = number;
    counting = true;
}

/* True when memory has run out meanwhile. */
static bool ran_out(void)
{
    counting = false;
    return left < 0;
}

static struct tls_context *load(void)
{
    char reason[TLS_REASON_SIZE];
    struct tls_context *context = peer_load(&files, "ec.crt", "ec.key", reason);

    assert_true((context == NULL) == (strlen(reason) > 0));
    return context;
}

static void loading_a_pair(void **state)
{
    (void)state;
    bool ran = true;

    tls_context_free(load());                 /* what OpenSSL sets up once is no matter of a pair */
    for (long number = 0; ran; number += 3) { /* of a thousand */
        fail_behind(number);
        struct tls_context *context = load();
        ran = ran_out();
        assert_true(ran || context != NULL);
        tls_context_free(context);
    }
}

static void opening_a_connection(void **state)
{
    (void)state;
    struct tls_context *context = load();
    bool ran = true;

    for (long number = 0; ran; number++) {
        fail_behind(number);
        struct tls *tls = tls_open(context);
        ran = ran_out();
        assert_true(ran || tls != NULL);
        assert_int_equal(ERR_peek_error(), 0);
        tls_free(tls);
    }
    tls_context_free(context);
}

/* A handshake, a word each way and the end. */
static bool live(struct duo *duo, long number)
{
    bool ran = false;

    for (int turn = 0; turn < 4; turn++) {
        if (SSL_do_handshake(duo->client) == 1 && turn == 3)
            SSL_write(duo->client, "NOOP\r\n", 6);
        ERR_clear_error();
        fail_behind(number);
        duo_upward(duo, TLS_FEED_MAX);
        if (turn == 3 && duo->status == TLS_OPEN) {
            tls_write(duo->tls, "250 ok\r\n", 8, &duo->records);
            tls_end(duo->tls, &duo->records);
        }
        number = left;
        ran |= ran_out();
        duo_downward(duo);
    }
    return ran;
}

static void living(void **state)
{
    (void)state;
    struct tls_context *context = load();

    for (size_t v = 0; v < PEER_VERSIONS; v++) {
        SSL_CTX *client = peer_client_context(peer_versions[v]);
        bool ran = true;
        for (long number = 0; ran; number++) {
            struct duo duo;
            duo_init(&duo, context, client);
            ran = live(&duo, number);
            assert_true((duo.status == TLS_FAILED) <= (strlen(tls_reason(duo.tls)) > 0));
            if (!ran) {
                assert_int_equal(duo.status, TLS_OPEN);
                assert_string_equal(tls_reason(duo.tls), "");
                assert_int_equal(duo.plain.length, 6);
            }
            duo_free(&duo);
        }
        SSL_CTX_free(client);
    }
    tls_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_a_pair),
        cmocka_unit_test(opening_a_connection),
        cmocka_unit_test(living),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
