/* What the programs do between two steps of the queue tool: before a rename or an unlink of the
 * tool a test does what a program could do at that moment. And errors, which become exit codes. */
#include "message.h"

#include "queue/retire.h"
#include "queue/tool/check.h"
#include "queue/tool/finding.h"
#include "queue/tool/inspect.h"
#include "queue/tool/list.h"
#include "queue/tool/move.h"
#include "queue/tool/reason.h"
#include "queue/tool/remove.h"
#include "queue/tool/stats.h"
#include "queue/tool/summary.h"

#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <time.h>

/* What happens before the tool's next call, once; and what that call fails with, if at all. */
static struct {
    const char *call;
    void (*happens)(const struct scratch *scratch, const char *id);
    int error;
    const struct scratch *scratch;
    const char *id;
} between;

static int strike(const char *call)
{
    int error = between.error;

    if (between.call == NULL || strcmp(between.call, call) != 0)
        return 0;
    between.call = NULL;
    if (between.happens != NULL)
        between.happens(between.scratch, between.id);
    return error;
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    errno = strike("renameat2");
    return errno != 0 ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    errno = strike("renameat");
    return errno != 0 ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int unlinkat(int directory, const char *name, int flags)
{
    errno = strike("unlinkat");
    return errno != 0 ? -1 : (int)syscall(SYS_unlinkat, directory, name, flags);
}

static size_t pauses;

int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)wanted, (void)left;
    pauses++;
    strike("nanosleep");
    return 0;
}

static void before(const char *call, int error, const struct scratch *scratch, const char *id,
                   void (*happens)(const struct scratch *scratch, const char *id))
{
    between.call = call;
    between.error = error;
    between.scratch = scratch;
    between.id = id;
    between.happens = happens;
}

static struct tool tool_of(const struct scratch *scratch, const char **names, size_t count)
{
    return (struct tool){
        .spool = scratch->spool,
        .spool_path = scratch->path,
        .now = INT64_C(1795288091123456),
        .options = {.queues = 3, .names = names, .names_count = count, .yes = true}};
}

/* Puts a message into failed/, with its reason. */
static void fail_message(const struct scratch *scratch, char id[static ID_SIZE])
{
    message_put(scratch, id, "body", 4);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, id, "old"), 0);
}

static void write_new_reason(const struct scratch *scratch, const char *id)
{
    int tmp = scratch_directory(scratch, QUEUE_TMP);
    char name[NAME_MAX];

    snprintf(name, sizeof name, "%s.reason", id);
    scratch_write(scratch, QUEUE_TMP, "fresh", "new\n", 4);
    assert_int_equal(
        syscall(SYS_renameat2, tmp, "fresh", scratch_directory(scratch, QUEUE_FAILED), name, 0), 0);
}

static void check_reason(const struct scratch *scratch, const char *id, const char *want)
{
    struct tool tool = tool_of(scratch, NULL, 0);
    struct buffer text;

    buffer_init(&text, REASON_BYTES_MAX + 1);
    assert_int_equal(reason_load(&tool, (struct place){QUEUE_STORE, QUEUE_FAILED}, id, &text), 0);
    assert_int_equal(text.length, strlen(want));
    assert_memory_equal(text.data, want, text.length);
    buffer_free(&text);
}

static size_t count_files(const struct scratch *scratch, enum queue_directory directory)
{
    int descriptor = openat(scratch_directory(scratch, directory), ".", O_RDONLY | O_DIRECTORY);
    DIR *stream = fdopendir(descriptor);
    size_t count = 0;

    for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(stream);
    return count;
}

static void only_the_reason_that_was_marked_is_dropped(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    struct place failed = {QUEUE_STORE, QUEUE_FAILED};
    char id[ID_SIZE];
    fail_message(scratch, id);

    /* Nothing happens. */
    check_reason(scratch, id, "old");
    assert_int_equal(reason_drop(&tool, failed, id, reason_mark(&tool, failed, id)), 0);
    check_reason(scratch, id, "");
    /* There is none. */
    assert_int_equal(reason_mark(&tool, failed, id), -1);
    assert_int_equal(reason_drop(&tool, failed, id, -1), 0);
    /* A new one comes after the mark. */
    write_new_reason(scratch, id);
    int mark = reason_mark(&tool, failed, id);
    write_new_reason(scratch, id);
    assert_int_equal(reason_drop(&tool, failed, id, mark), 0);
    check_reason(scratch, id, "new");
    /* It comes at the last moment. */
    mark = reason_mark(&tool, failed, id);
    before("renameat", 0, scratch, id, write_new_reason);
    assert_int_equal(reason_drop(&tool, failed, id, mark), 0);
    check_reason(scratch, id, "new");
    /* It is gone at the last moment, by somebody who did the same. */
    before("renameat", ENOENT, scratch, id, NULL);
    assert_int_equal(reason_drop(&tool, failed, id, reason_mark(&tool, failed, id)), 0);
    before("renameat", EIO, scratch, id, NULL);
    assert_int_equal(reason_drop(&tool, failed, id, reason_mark(&tool, failed, id)), EIO);
    assert_int_equal(count_files(scratch, QUEUE_TMP), 0);
}

static void write_two_new_reasons(const struct scratch *scratch, const char *id)
{
    write_new_reason(scratch, id);
    before("renameat2", 0, scratch, id, write_new_reason);
}

static void the_newest_reason_stays(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    struct place failed = {QUEUE_STORE, QUEUE_FAILED};
    char id[ID_SIZE];
    fail_message(scratch, id);
    int mark = reason_mark(&tool, failed, id);
    before("renameat", 0, scratch, id, write_two_new_reasons);
    assert_int_equal(reason_drop(&tool, failed, id, mark), 0);
    check_reason(scratch, id, "new");
    assert_int_equal(count_files(scratch, QUEUE_TMP), 0);
}

static void retries_where_nothing_can_refuse_to_replace(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    const char *names[] = {id};
    struct tool tool = tool_of(scratch, names, 1);
    fail_message(scratch, id);
    before("renameat2", EINVAL, scratch, id, NULL);
    assert_int_equal(move_retry_run(&tool), EX_OK);
    assert_true(scratch_exists(scratch, QUEUE_NEW, id));
    check_reason(scratch, id, "");
}

static void put_another(const struct scratch *scratch, const char *id)
{
    scratch_write(scratch, QUEUE_NEW, id, "another", 7);
}

static void never_over_another(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {0, EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        char id[ID_SIZE];
        const char *names[] = {id};
        struct tool tool = tool_of(scratch, names, 1);
        fail_message(scratch, id);
        before("renameat2", errors[i], scratch, id, put_another);
        assert_int_equal(move_retry_run(&tool), EX_TEMPFAIL);
        assert_true(scratch_exists(scratch, QUEUE_FAILED, id));
        check_reason(scratch, id, "old");
        size_t length;
        char *bytes = scratch_read(scratch, QUEUE_NEW, id, &length);
        assert_string_equal(bytes, "another");
        free(bytes);
    }
}

static void take_away(const struct scratch *scratch, const char *id)
{
    assert_int_equal(syscall(SYS_unlinkat, scratch_directory(scratch, QUEUE_FAILED), id, 0), 0);
}

static void somebody_was_faster(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    const char *names[] = {id};
    struct tool tool = tool_of(scratch, names, 1);
    fail_message(scratch, id);
    before("renameat2", 0, scratch, id, take_away);
    assert_int_equal(move_retry_run(&tool), EX_NOINPUT);
    check_reason(scratch, id, "old");
    /* That is no error where it was not asked for by its name. */
    fail_message(scratch, id);
    tool.options.all = true;
    before("renameat2", 0, scratch, id, take_away);
    assert_int_equal(move_retry_run(&tool), EX_OK);
    fail_message(scratch, id);
    before("renameat2", EROFS, scratch, id, NULL);
    assert_int_equal(move_retry_run(&tool), EX_OSERR);
}

static void goes_on(const struct scratch *scratch, const char *id)
{
    assert_int_equal(syscall(SYS_renameat2, scratch_directory(scratch, QUEUE_NEW), id,
                             scratch_directory(scratch, QUEUE_CUR), id, 0),
                     0);
}

static void what_goes_on_to_another_state_is_not_removed(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    const char *names[] = {id};
    struct tool tool = tool_of(scratch, names, 1);
    message_put(scratch, id, "body", 4);
    before("unlinkat", 0, scratch, id, goes_on);
    assert_int_equal(remove_run(&tool), EX_TEMPFAIL);
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
    assert_int_equal(remove_run(&tool), EX_OK);
    assert_int_equal(remove_run(&tool), EX_NOINPUT);
}

static void removal_that_is_refused(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    const char *names[] = {id};
    struct tool tool = tool_of(scratch, names, 1);
    fail_message(scratch, id);
    before("unlinkat", EACCES, scratch, id, NULL);
    assert_int_equal(remove_run(&tool), EX_NOPERM);
    check_reason(scratch, id, "old");
    before("renameat", EROFS, scratch, id, NULL);
    assert_int_equal(remove_run(&tool), EX_OSERR);
    check_reason(scratch, id, "old");
}

static void replay_that_is_refused(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    char id[ID_SIZE];
    message_put(scratch, id, "body", 4);
    goes_on(scratch, id);
    before("renameat2", EROFS, scratch, id, NULL);
    assert_int_equal(move_replay_run(&tool), EX_OSERR);
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
}

static struct finding find(const char *name, enum queue_directory directory, enum repair repair)
{
    return (struct finding){.path = name,
                            .place = {QUEUE_STORE, directory},
                            .name = name,
                            .descriptor = -1,
                            .problem = "so",
                            .repair = repair};
}

/* Between the finding and its repair. */
static void repairs_only_what_is_still_so(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    char id[ID_SIZE], reason[ID_SIZE + 8];
    tool.options.repair = true;
    fail_message(scratch, id);
    snprintf(reason, sizeof reason, "%s.reason", id);

    /* The message came, or the reason went. */
    struct finding finding = find(reason, QUEUE_FAILED, REPAIR_REASON);
    assert_true(finding_report(&tool, &finding));
    check_reason(scratch, id, "old");
    finding = find("gone.reason", QUEUE_FAILED, REPAIR_REASON);
    assert_true(finding_report(&tool, &finding));
    finding = find("no-reason", QUEUE_FAILED, REPAIR_REASON);
    assert_false(finding_report(&tool, &finding));
    /* What was a leftover is whole by now. */
    message_put(scratch, id, "body", 4);
    assert_int_equal(syscall(SYS_renameat2, scratch_directory(scratch, QUEUE_NEW), id,
                             scratch_directory(scratch, QUEUE_TMP), id, 0),
                     0);
    finding = find(id, QUEUE_TMP, REPAIR_LEFTOVER);
    assert_false(finding_report(&tool, &finding));
    assert_true(scratch_exists(scratch, QUEUE_TMP, id));
    finding = find("gone", QUEUE_TMP, REPAIR_LEFTOVER);
    assert_true(finding_report(&tool, &finding));
    finding = find("gone", QUEUE_NEW, REPAIR_FILE);
    assert_false(finding_report(&tool, &finding));
    finding = find(id, QUEUE_TMP, REPAIR_NONE);
    assert_false(finding_report(&tool, &finding));
}

static void what_is_gone_is_told_nothing_of(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    struct summary summary;
    assert_false(summary_open(&summary, &tool, (struct place){QUEUE_STORE, QUEUE_NEW}, "gone"));
}

/* A directory that cannot be read. */
static void directories_that_cannot_be_read(void **state)
{
    struct scratch *scratch = *state;
    for (int directory = 0; directory < QUEUE_DIRECTORY_COUNT; directory++) {
        struct tool tool = tool_of(scratch, NULL, 0);
        tool.options.all = true;
        tool.spool.directories[QUEUE_STORE][directory] = -1;
        int want = directory == QUEUE_TMP ? EX_OK : EX_OSERR;
        assert_int_equal(list_run(&tool), want);
        assert_int_equal(stats_run(&tool), EX_OSERR);
        assert_int_equal(move_retry_run(&tool), directory == QUEUE_FAILED ? EX_OSERR : EX_OK);
        assert_int_equal(move_replay_run(&tool), directory == QUEUE_CUR ? EX_OSERR : EX_OK);
    }
}

/* Puts a message into relay's new/ and cur/. */
static void put_in_both(const struct scratch *scratch, char id[static ID_SIZE])
{
    const int *relay = scratch->spool.directories[QUEUE_RELAY];

    message_put(scratch, id, "body", 4);
    assert_int_equal(linkat(scratch_directory(scratch, QUEUE_NEW), id, relay[QUEUE_CUR], id, 0), 0);
    assert_int_equal(
        syscall(SYS_renameat2, scratch_directory(scratch, QUEUE_NEW), id, relay[QUEUE_NEW], id, 0),
        0);
}

static void relay_ends_its_step(const struct scratch *scratch, const char *id)
{
    assert_int_equal(
        syscall(SYS_unlinkat, scratch->spool.directories[QUEUE_RELAY][QUEUE_NEW], id, 0), 0);
}

/* However many are in both, as many are looked at once more as there is room for. */
static void states_that_last_are_said(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch, NULL, 0);
    char id[ID_SIZE];

    assert_int_equal(chmod(scratch->path, SPOOL_DIRECTORY_MODE), 0);
    put_in_both(scratch, id);
    pauses = 0;
    before("nanosleep", 0, scratch, id, relay_ends_its_step);
    assert_int_equal(check_run(&tool), EX_OK);
    assert_int_equal(pauses, 1);
    for (int i = 0; i < INSPECT_SUSPECTS + 1; i++)
        put_in_both(scratch, id);
    pauses = 0;
    assert_int_equal(check_run(&tool), EX_DATAERR);
    assert_int_equal(pauses, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(only_the_reason_that_was_marked_is_dropped),
        TEST(the_newest_reason_stays),
        TEST(retries_where_nothing_can_refuse_to_replace),
        TEST(never_over_another),
        TEST(somebody_was_faster),
        TEST(what_goes_on_to_another_state_is_not_removed),
        TEST(removal_that_is_refused),
        TEST(replay_that_is_refused),
        TEST(repairs_only_what_is_still_so),
        TEST(what_is_gone_is_told_nothing_of),
        TEST(directories_that_cannot_be_read),
        TEST(states_that_last_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
