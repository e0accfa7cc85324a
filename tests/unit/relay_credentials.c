/* Passwords and tokens in files: the first line, whatever surrounds it, and nothing where there is
 * none. */
#include "relay/credentials.h"
#include "tests/unit/scratch.h"

static void in_new(const struct scratch *scratch, const char *name, char path[static 200])
{
    snprintf(path, 200, "%s/store/new/%s", scratch->path, name);
}

static void takes_the_first_line(void **state)
{
    static const struct {
        const char *file, *want;
    } cases[] = {
        {"secret\n", "secret"},
        {"secret", "secret"},
        {"secret\r\n", "secret"},
        {"secret\nmore\n", "secret"},
        {" se cret \t\n", " se cret \t"},
        {"s\n\n", "s"},
        {"geh\xc3\xa9im\n", "geh\xc3\xa9im"},
        {"a\rb\n", "a\rb"},
    };
    struct scratch *scratch = *state;
    char path[200], secret[CREDENTIALS_SIZE], reason[CREDENTIALS_REASON_SIZE];

    in_new(scratch, "p", path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_write(scratch, QUEUE_NEW, "p", cases[i].file, strlen(cases[i].file));
        assert_true(credentials_read(path, secret, reason));
        assert_string_equal(secret, cases[i].want);
    }
}

static void says_why_there_is_none(void **state)
{
    static const struct {
        const char *file;
        size_t length;
        const char *want;
    } cases[] = {
        {"", 0, "its first line is empty"},
        {"\n", 1, "its first line is empty"},
        {"\r\nsecret\n", 9, "its first line is empty"},
        {"sec\0ret\n", 8, "its first line has a NUL in it"},
    };
    struct scratch *scratch = *state;
    char path[200], secret[CREDENTIALS_SIZE], reason[CREDENTIALS_REASON_SIZE];
    char empty[CREDENTIALS_SIZE] = "";

    in_new(scratch, "p", path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_write(scratch, QUEUE_NEW, "p", cases[i].file, cases[i].length);
        memset(secret, 'x', sizeof secret);
        assert_false(credentials_read(path, secret, reason));
        assert_string_equal(reason, cases[i].want);
        assert_memory_equal(secret, empty, sizeof secret);
    }
    in_new(scratch, "nowhere", path);
    assert_false(credentials_read(path, secret, reason));
    assert_string_equal(reason, "No such file or directory");
    assert_false(credentials_read(scratch->path, secret, reason));
    assert_string_equal(reason, "Is a directory");
}

static void has_bounds(void **state)
{
    struct scratch *scratch = *state;
    char path[200], secret[CREDENTIALS_SIZE], reason[CREDENTIALS_REASON_SIZE];
    char long_line[CREDENTIALS_SIZE + 100];

    in_new(scratch, "p", path);
    memset(long_line, 'x', sizeof long_line);
    long_line[CREDENTIALS_SIZE - 1] = '\n';
    scratch_write(scratch, QUEUE_NEW, "p", long_line, sizeof long_line);
    assert_true(credentials_read(path, secret, reason));
    assert_int_equal(strlen(secret), CREDENTIALS_SIZE - 1);
    scratch_write(scratch, QUEUE_NEW, "p", long_line, CREDENTIALS_SIZE - 1);
    assert_true(credentials_read(path, secret, reason));
    assert_int_equal(strlen(secret), CREDENTIALS_SIZE - 1);
    long_line[CREDENTIALS_SIZE - 1] = 'x';
    long_line[CREDENTIALS_SIZE] = '\n';
    scratch_write(scratch, QUEUE_NEW, "p", long_line, sizeof long_line);
    assert_false(credentials_read(path, secret, reason));
    assert_string_equal(reason, "its first line is too long");
}

/* It would wait for somebody to write. */
static void does_not_wait_for_a_pipe(void **state)
{
    struct scratch *scratch = *state;
    char path[200], secret[CREDENTIALS_SIZE], reason[CREDENTIALS_REASON_SIZE];

    in_new(scratch, "pipe", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(credentials_read(path, secret, reason));
    assert_string_equal(reason, "it is no regular file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_the_first_line, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(says_why_there_is_none, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(has_bounds, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(does_not_wait_for_a_pipe, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
