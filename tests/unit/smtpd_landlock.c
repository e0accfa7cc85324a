/* Landlock's rules for files that are read again: what is renewed after the start, by links and without,
 * can be read, and what lies elsewhere cannot. */
#include "confined.h"

/* Files that are read again after they were renewed. */

static const struct renewal {
    const char *name;
    const char *path;    /* as it is set */
    const char *renewed; /* read after the renewal: it, or what must not be readable */
    bool readable;
    const char *links[3][2]; /* at the start */
    const char *fresh;       /* a directory that the renewal makes, or NULL */
    const char *turned[2];   /* a link that it turns */
} renewals[] = {
    {"a file replaced", "a/file", "a/file", true, {{NULL}}, NULL, {NULL}},
    {"another file beside it", "a/file", "b/file", false, {{NULL}}, NULL, {NULL}},
    {"certbot",
     "live/file",
     "live/file",
     true,
     {{"live/file", "../a/file"}},
     NULL,
     {"live/file", "../a/file2"}},
    {"a link that is turned elsewhere",
     "live/file",
     "live/file",
     false,
     {{"live/file", "../a/file"}},
     NULL,
     {"live/file", "../b/file"}},
    {"Kubernetes",
     "live/file",
     "live/file",
     true,
     {{"live/..data", "..1"}, {"live/file", "..data/file"}},
     "live/..2",
     {"live/..data", "..2"}},
    {"Kubernetes, named by its inner link",
     "live/..data/file",
     "live/..data/file",
     true,
     {{"live/..data", "..1"}},
     "live/..2",
     {"live/..data", "..2"}},
    {"a directory that is a link, turned",
     "current/file",
     "current/file",
     true,
     {{"current", "releases/1"}},
     "releases/2",
     {"current", "releases/2"}},
    {"a link to a file in such a directory",
     "live/file",
     "live/file",
     true,
     {{"current", "releases/1"}, {"live/file", "../current/file"}},
     "releases/2",
     {"current", "releases/2"}},
    {"one that is turned elsewhere",
     "current/file",
     "current/file",
     false,
     {{"current", "releases/1"}},
     NULL,
     {"current", "a"}},
    {"a link to a directory of the root",
     "current/file",
     "/etc/passwd",
     false,
     {{"current", "/tmp"}},
     NULL,
     {NULL}},
};

enum { RENEWALS = sizeof renewals / sizeof *renewals };

static const struct renewal *renewal;

static void renew(pid_t child)
{
    (void)child;
    if (renewal->fresh != NULL) {
        make_directory(renewal->fresh);
        make_file(strcmp(renewal->fresh, "live/..2") == 0 ? "live/..2/file" : "releases/2/file");
    }
    if (renewal->turned[0] != NULL) {
        make_link(renewal->turned[0], renewal->turned[1]);
    } else {
        make_file("a/file.new");
        assert_int_equal(rename(at("a/file.new"), at("a/file")), 0);
    }
}

static void confined_and_renewed(void)
{
    const char *path = renewal->renewed;

    confine();
    let_parent();
    report->errors[0][0] = attempt_open(AT_FDCWD, path[0] == '/' ? path : at(path), O_RDONLY);
}

static void what_is_renewed_can_be_read(void **state)
{
    static const char *const directories[] = {"a",        "b",        "live",
                                              "live/..1", "releases", "releases/1"};
    static const char *const files[] = {"a/file", "a/file2", "b/file", "live/..1/file",
                                        "releases/1/file"};
    char path[PATH_MAX];

    for (int i = 0; i < RENEWALS; i++) {
        renewal = &renewals[i];
        begin(state);
        for (size_t k = 0; k < sizeof directories / sizeof *directories; k++)
            make_directory(directories[k]);
        for (size_t k = 0; k < sizeof files / sizeof *files; k++)
            make_file(files[k]);
        for (int k = 0; k < 3 && renewal->links[k][0] != NULL; k++)
            make_link(renewal->links[k][0], renewal->links[k][1]);
        snprintf(path, sizeof path, "%s", at(renewal->path));
        plan.files[1] = path;
        plan.files_count = 2;
        assert_int_equal(run(confined_and_renewed, renew), 0);
        if (report->errors[0][0] != (renewal->readable ? 0 : EACCES))
            print_error("%s: %s\n", renewal->name, strerror(report->errors[0][0]));
        assert_int_equal(report->errors[0][0], renewal->readable ? 0 : EACCES);
        end(state);
    }
}

static void nothing(pid_t child)
{
    (void)child;
}

/* What is not there keeps nobody from starting. */
static void absent_directories_are_passed_over(void **state)
{
    (void)state;
    snprintf(metrics, sizeof metrics, "%s", at("absent/metrics.prom"));
    plan.files[1] = "/var/tmp/mayfly-absent/list";
    plan.files[2] = NULL;
    plan.files[3] = place.list;
    plan.files_count = 4;
    assert_int_equal(run(confined_and_waiting, nothing), 0);
    assert_int_equal(report->code, EX_OK);
    assert_int_equal(report->errors[0][0], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_renewed_can_be_read),
        TEST(absent_directories_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
