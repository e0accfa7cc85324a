/* Settings: what is read, what is refused and in which words, what is shown. */
#include "common/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

struct config {
    const char *text;
    long number;
    long unset;
    bool flag;
    int choice;
    struct setting_list list;
    const char *secret;
    const char *url;
};

static const char *const colours[] = {"red", "green", NULL};
static const struct setting table[] = {
    {"T_TEXT", SETTING_TEXT, "fallback", 0, 0, NULL, "a text", offsetof(struct config, text)},
    {"T_NUMBER", SETTING_NUMBER, "7", 1, 99, NULL, "a number", offsetof(struct config, number)},
    {"T_UNSET", SETTING_NUMBER, NULL, 0, 9, NULL, "no default", offsetof(struct config, unset)},
    {"T_FLAG", SETTING_FLAG, "0", 0, 0, NULL, "a flag", offsetof(struct config, flag)},
    {"T_CHOICE", SETTING_CHOICE, "green", 0, 0, colours, "one of", offsetof(struct config, choice)},
    {"T_LIST", SETTING_LIST, "", 0, 0, NULL, "a list", offsetof(struct config, list)},
    {"T_SECRET", SETTING_SECRET, NULL, 0, 0, NULL, "a secret", offsetof(struct config, secret)},
    {"T_URL", SETTING_CONNINFO, NULL, 0, 0, NULL, "a URL", offsetof(struct config, url)},
};
enum { COUNT = sizeof table / sizeof *table };

static char directory[] = "/var/tmp/mayfly-unit-XXXXXX";

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        unsetenv(table[i].name);
    unsetenv("T_TYPO");
    unlink(".env");
    return 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Loads, with what goes to stderr caught in `output`. */
static int load(struct config *config, char output[static 4096])
{
    int saved = dup(STDERR_FILENO), file = open("stderr", O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    int code = settings_load(table, COUNT, "T_", config);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(file, output, 4095, 0);
    output[n > 0 ? n : 0] = '\0';
    close(file);
    return code;
}

static void release(struct config *config)
{
    for (size_t i = 0; i < config->list.count; i++)
        free(config->list.items[i]);
    free(config->list.items);
    free((char *)config->list.path);
    free((char *)config->text);
    free((char *)config->secret);
    free((char *)config->url);
}

static void defaults_hold(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    assert_int_equal(load(&config, output), EX_OK);
    assert_string_equal(output, "");
    assert_string_equal(config.text, "fallback");
    assert_int_equal(config.number, 7);
    assert_int_equal(config.unset, -1);
    assert_false(config.flag);
    assert_int_equal(config.choice, 1);
    assert_int_equal(config.list.count, 0);
    assert_null(config.secret);
    release(&config);
}

static void the_environment_wins_over_dotenv(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    write_file(".env", "# a comment\n\nT_TEXT=from file\nexport T_NUMBER = 42 \nT_SECRET='q # x'\n"
                       "T_FLAG=\"1\"\nnonsense\n");
    setenv("T_TEXT", "from environment", 1);
    assert_int_equal(load(&config, output), EX_OK);
    assert_string_equal(config.text, "from environment");
    assert_int_equal(config.number, 42);
    assert_string_equal(config.secret, "q # x");
    assert_true(config.flag);
    release(&config);
}

static void a_wrong_value_is_named_with_what_it_may_be(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *want;
    } rows[] = {
        {"T_NUMBER", "0", "setting=T_NUMBER value=0 expected=\"a whole number from 1 to 99\""},
        {"T_NUMBER", "100", "setting=T_NUMBER value=100 expected=\"a whole number from 1 to 99\""},
        {"T_NUMBER", "5x", "value=5x"},
        {"T_NUMBER", " 5", "value=\" 5\""},
        {"T_NUMBER", "", "value=\"\""},
        {"T_NUMBER", "99999999999999999999", "value=99999999999999999999"},
        {"T_FLAG", "yes", "setting=T_FLAG value=yes expected=\"0 or 1\""},
        {"T_CHOICE", "blue", "setting=T_CHOICE value=blue expected=\"red, green\""},
        {"T_LIST", "@/nonexistent",
         "setting=T_LIST value=@/nonexistent expected=\"a list, or @ and"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config config = {0};
        char output[4096];
        setup(NULL);
        setenv(rows[i].name, rows[i].value, 1);
        assert_int_equal(load(&config, output), EX_CONFIG);
        assert_non_null(strstr(output, "level=error event=bad_setting"));
        assert_non_null(strstr(output, rows[i].want));
        release(&config);
    }
}

static void a_likely_typing_error_is_warned_of(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    setenv("T_TYPO", "1", 1);
    assert_int_equal(load(&config, output), EX_OK);
    assert_string_equal(output, "level=warn event=unknown_setting setting=T_TYPO\n");
    release(&config);
}

static void lists_come_from_text_or_file(void **state)
{
    (void)state;
    static const char *const want[] = {"a.example", ".b.example", "c#d"};
    write_file("list", "# domains\na.example, .b.example # two\r\n\n  c#d\n");
    for (int from_file = 0; from_file < 2; from_file++) {
        struct config config;
        char output[4096];
        setenv("T_LIST", from_file ? "@list" : " a.example,.b.example ,,c#d", 1);
        assert_int_equal(load(&config, output), EX_OK);
        assert_int_equal(config.list.count, 3);
        for (int i = 0; i < 3; i++)
            assert_string_equal(config.list.items[i], want[i]);
        release(&config);
    }
}

static void a_list_is_reread_and_kept_when_unreadable(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    write_file("list", "one\n");
    setenv("T_LIST", "@list", 1);
    assert_int_equal(load(&config, output), EX_OK);
    write_file("list", "one\ntwo\n");
    assert_true(settings_list_reread(&config.list, "T_LIST", NULL));
    assert_int_equal(config.list.count, 2);
    unlink("list");
    assert_false(settings_list_reread(&config.list, "T_LIST", NULL));
    assert_true(config.list.broken);
    assert_int_equal(config.list.count, 2);
    write_file("list", "three\n");
    assert_true(settings_list_reread(&config.list, "T_LIST", NULL));
    assert_false(config.list.broken);
    assert_string_equal(config.list.items[0], "three");
    release(&config);
}

static bool starts_with_a_letter(const char *item)
{
    return *item >= 'a' && *item <= 'z';
}

static void an_entry_that_is_not_valid_keeps_the_old_list(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    write_file("list", "one\n");
    setenv("T_LIST", "@list", 1);
    assert_int_equal(load(&config, output), EX_OK);
    write_file("list", "two\n3\n");
    assert_false(settings_list_reread(&config.list, "T_LIST", starts_with_a_letter));
    assert_true(config.list.broken);
    assert_int_equal(config.list.count, 1);
    assert_string_equal(config.list.items[0], "one");
    write_file("list", "two\nthree\n");
    assert_true(settings_list_reread(&config.list, "T_LIST", starts_with_a_letter));
    assert_false(config.list.broken);
    assert_int_equal(config.list.count, 2);
    release(&config);
}

static void a_byte_order_mark_is_no_part_of_an_entry(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    write_file("list", "\xef\xbb\xbfone\ntwo\n");
    setenv("T_LIST", "@list", 1);
    assert_int_equal(load(&config, output), EX_OK);
    assert_int_equal(config.list.count, 2);
    assert_string_equal(config.list.items[0], "one");
    release(&config);
}

static void a_file_that_is_no_text_keeps_the_old_list(void **state)
{
    (void)state;
    struct config config;
    char output[4096];
    write_file("list", "one\ntwo\n");
    setenv("T_LIST", "@list", 1);
    assert_int_equal(load(&config, output), EX_OK);
    assert_int_equal(truncate("list", 5), 0);
    assert_int_equal(truncate("list", 4096), 0); /* zeros, as after a power cut */
    assert_false(settings_list_reread(&config.list, "T_LIST", NULL));
    unlink("list");
    assert_int_equal(mkfifo("list", 0600), 0);
    assert_false(settings_list_reread(&config.list, "T_LIST", NULL));
    assert_true(config.list.broken);
    assert_int_equal(config.list.count, 2);
    release(&config);
}

static void an_empty_text_is_unset(void **state)
{
    (void)state;
    struct config config;
    char output[4096], *text = NULL;
    size_t length = 0;
    setenv("T_TEXT", "", 1);
    setenv("T_SECRET", "", 1);
    assert_int_equal(load(&config, output), EX_OK);
    assert_string_equal(config.text, "fallback");
    assert_null(config.secret);
    FILE *out = open_memstream(&text, &length);
    settings_print_values(table, COUNT, out);
    fclose(out);
    assert_non_null(strstr(text, "T_TEXT=fallback\n"));
    assert_non_null(strstr(text, "# T_SECRET is unset\n"));
    free(text);
    release(&config);
}

static void secrets_are_masked(void **state)
{
    (void)state;
    static const struct {
        const char *url, *want;
    } rows[] = {
        {"postgresql://u:pa%2Fss@h:5432/db?x=1", "T_URL=postgresql://u:********@h:5432/db?x=1\n"},
        {"postgresql://u:p@ss@h/db", "T_URL=postgresql://u:********@h/db\n"},
        {"postgresql://u@h/db?password=hush&y=2",
         "T_URL=postgresql://u@h/db?password=********&y=2\n"},
        {"host=h password=hush user=u", "T_URL=host=h password=******** user=u\n"},
        {"host=h password = 'hu \\'sh' user=u", "T_URL=host=h password = ******** user=u\n"},
        {"host=h passfile=/x user=u", "T_URL=host=h passfile=/x user=u\n"},
        {"host=h sslpassword=hush", "T_URL=host=h sslpassword=********\n"},
        {"postgresql:///db", "T_URL=postgresql:///db\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = NULL;
        size_t length = 0;
        setenv("T_URL", rows[i].url, 1);
        setenv("T_SECRET", "hush", 1);
        FILE *out = open_memstream(&text, &length);
        settings_print_values(table, COUNT, out);
        fclose(out);
        assert_null(strstr(text, "hu"));
        assert_non_null(strstr(text, "T_SECRET=********\n"));
        assert_non_null(strstr(text, rows[i].want));
        assert_non_null(strstr(text, "T_NUMBER=7\n"));
        assert_non_null(strstr(text, "# T_UNSET is unset\n"));
        free(text);
    }
}

static int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) == NULL || chdir(directory) != 0;
}

static int leave_directory(void **state)
{
    (void)state;
    unlink(".env"), unlink("list"), unlink("stderr");
    return chdir("/") != 0 || rmdir(directory) != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_hold, setup),
        cmocka_unit_test_setup(the_environment_wins_over_dotenv, setup),
        cmocka_unit_test_setup(a_wrong_value_is_named_with_what_it_may_be, setup),
        cmocka_unit_test_setup(a_likely_typing_error_is_warned_of, setup),
        cmocka_unit_test_setup(lists_come_from_text_or_file, setup),
        cmocka_unit_test_setup(a_list_is_reread_and_kept_when_unreadable, setup),
        cmocka_unit_test_setup(an_entry_that_is_not_valid_keeps_the_old_list, setup),
        cmocka_unit_test_setup(a_byte_order_mark_is_no_part_of_an_entry, setup),
        cmocka_unit_test_setup(a_file_that_is_no_text_keeps_the_old_list, setup),
        cmocka_unit_test_setup(an_empty_text_is_unset, setup),
        cmocka_unit_test_setup(secrets_are_masked, setup),
    };
    return cmocka_run_group_tests_name("common/settings", tests, enter_directory, leave_directory);
}
