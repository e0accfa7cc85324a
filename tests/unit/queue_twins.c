/* Group commit of messages for relay, and for both queues: what comes before what, and that twins end
 * alike whatever fails. The calls that make a file durable are played, so that each can be made to
 * fail; the file system under them is real. */
#include "message.h"

#include "queue/reader.h"

#include <errno.h>
#include <sys/syscall.h>

enum { EVENTS_MAX = 64, FILES_MAX = 8 };

/* What commit_run did: F syncfs, f fsync of a file, d fsync of a directory, s and r a rename into
 * new/ of store or relay. */
static char events[EVENTS_MAX + 1];
static size_t event_count;
static size_t failing; /* number of the event that fails, from 1 on; 0: none */
static int *dying;     /* directory that takes no more changes from the next flush on, or NULL */
static const struct spool *spool;
static struct commit commit;

/* Inodes of files whose bytes are durable by themselves, and whether all are. */
static ino_t durable[FILES_MAX];
static size_t durable_count;
static bool all_durable;

static bool happen(char event)
{
    assert_true(event_count < EVENTS_MAX);
    events[event_count++] = event;
    if (dying != NULL && (event == 'F' || event == 'd'))
        *dying = -1;
    errno = EIO;
    return event_count != failing;
}

static ino_t inode_of(int directory, const char *name)
{
    struct stat status;
    return fstatat(directory, name, &status, 0) == 0 ? status.st_ino : 0;
}

static bool is_durable(ino_t inode)
{
    bool found = all_durable;
    for (size_t i = 0; i < durable_count; i++)
        found = found || durable[i] == inode;
    return found;
}

/* In place of the C library's. */
int syncfs(int descriptor)
{
    (void)descriptor;
    if (!happen('F'))
        return -1;
    all_durable = true;
    return 0;
}

int fsync(int descriptor)
{
    struct stat status;
    assert_int_equal(fstat(descriptor, &status), 0);
    if (!happen(S_ISDIR(status.st_mode) ? 'd' : 'f'))
        return -1;
    assert_true(durable_count < FILES_MAX);
    durable[durable_count++] = status.st_ino;
    return 0;
}

/* No name stands in relay/new, not for a moment, whose bytes would not survive. */
int renameat(int from, const char *old, int to, const char *new)
{
    bool relayed = to == spool->directories[QUEUE_RELAY][QUEUE_NEW];
    if (relayed)
        assert_true(is_durable(inode_of(from, old)));
    if (!happen(relayed ? 'r' : 's'))
        return -1;
    return (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

/* A group: A is stored, B relayed, and of P there are both files. */
enum file { STORED, RELAYED, PAIR_STORED, PAIR_RELAYED, FILE_COUNT };

static struct writer writers[FILE_COUNT];
static char ids[FILE_COUNT][ID_SIZE];

static bool exists(enum queue queue, enum queue_directory directory, const char *id)
{
    return faccessat(spool->directories[queue][directory], id, F_OK, 0) == 0;
}

static void write_file(enum file which, bool pieces)
{
    static const enum queue queues[] = {QUEUE_STORE, QUEUE_RELAY, QUEUE_STORE, QUEUE_RELAY};
    struct envelope envelope = message_envelope(ids[which]);
    struct writer *writer = &writers[which];

    if (which == PAIR_RELAYED)
        envelope.id = strcpy(ids[PAIR_RELAYED], ids[PAIR_STORED]);
    assert_int_equal(writer_begin(writer, spool, queues[which], &envelope), 0);
    if (queues[which] == QUEUE_STORE)
        assert_int_equal(writer_prefix(writer, "Own: line\r\n", 11), 0);
    if (which == PAIR_RELAYED)
        writer_pair(&writers[PAIR_STORED], writer);
    if (pieces)
        assert_int_equal(writer_append(writer, "piece\r\n", 7), 0);
    assert_int_equal(writer_finish(writer, "body\r\n", 6), 0);
}

/* Commits the files that are named in `which`, of A, B and P, where `fails` is the number of the event
 * that fails. */
static void run(const char *which, bool pieces, size_t fails)
{
    struct writer *group[FILE_COUNT];
    size_t count = 0;

    for (; *which != '\0'; which++) {
        enum file first = *which == 'A' ? STORED : *which == 'B' ? RELAYED : PAIR_STORED;
        write_file(first, pieces);
        group[count++] = &writers[first];
        if (first == PAIR_STORED) {
            write_file(PAIR_RELAYED, pieces);
            group[count++] = &writers[PAIR_RELAYED];
        }
    }
    event_count = durable_count = 0;
    all_durable = false;
    memset(events, 0, sizeof events);
    failing = fails;
    commit_run(&commit, group, count);
    failing = 0;
}

/* The method, and whether one flush is for both queues. */
static const struct way {
    enum commit_method method;
    bool shared;
} ways[] = {{COMMIT_SYNCFS, true}, {COMMIT_SYNCFS, false}, {COMMIT_FSYNC, false}};

static void begin(const struct way *way)
{
    struct commit_queue *store = &commit.queues[QUEUE_STORE], *relay = &commit.queues[QUEUE_RELAY];

    assert_int_equal(commit_open(&commit, spool), 0);
    /* A file system where commit_open chooses fsync plays the others all the same: syncfs is ours. */
    if (store->method == COMMIT_FSYNC)
        store->sync_descriptor = relay->sync_descriptor = dup(spool->root);
    assert_int_equal(store->sync_descriptor, relay->sync_descriptor);
    store->method = relay->method = way->method;
    if (way->method == COMMIT_FSYNC) {
        close(store->sync_descriptor);
        store->sync_descriptor = relay->sync_descriptor = -1;
    } else if (!way->shared) {
        relay->sync_descriptor = dup(store->sync_descriptor);
    }
}

/* A file is in new/, with its own first line where it has one, and in no tmp/. */
static void check_file(enum file which, bool pieces)
{
    const struct writer *writer = &writers[which];
    const char *want = pieces ? "Own: line\r\npiece\r\nbody\r\n" : "Own: line\r\nbody\r\n";
    char got[64] = "";
    struct reader reader;

    if (writer->queue == QUEUE_RELAY)
        want += strlen("Own: line\r\n");
    assert_int_equal(writer->error, 0);
    assert_int_equal(writer->descriptor, -1);
    assert_false(exists(writer->queue, QUEUE_TMP, ids[which]));
    assert_int_equal(reader_open(&reader, spool, writer->queue, QUEUE_NEW, ids[which]), READER_OK);
    assert_int_equal(reader.envelope.size, strlen(want));
    assert_int_equal(reader_read(&reader, got, strlen(want)), 0);
    assert_string_equal(got, want);
    reader_close(&reader);
}

static void check_nothing(enum file which, int error)
{
    assert_int_equal(writers[which].error, error);
    assert_int_equal(writers[which].descriptor, -1);
    assert_null(writers[which].head.data);
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        assert_false(exists((enum queue)queue, QUEUE_TMP, ids[which]));
        assert_false(exists((enum queue)queue, QUEUE_NEW, ids[which]));
    }
}

/* Mail that is only stored costs one flush a group, as if there were no relay. */
static void bytes_are_durable_before_relay_can_see_them(void **state)
{
    static const struct {
        const char *group;
        const char *whole[3], *pieces[3]; /* by the way */
    } rows[] = {
        {"A", {"sF", "sF", "fsd"}, {"fsF", "fsF", "fsd"}},
        {"B", {"FrF", "FrF", "frd"}, {"fFrF", "fFrF", "frd"}},
        {"P", {"sFrF", "sFFrF", "ffsdrd"}, {"ffsFrF", "ffsFFrF", "ffsdrd"}},
        {"AB", {"sFrF", "sFFrF", "ffsdrd"}, {"ffsFrF", "ffsFFrF", "ffsdrd"}},
        {"BPA", {"ssFrrF", "ssFFrrF", "ffffssdrrd"}, {"ffffssFrrF", "ffffssFFrrF", "ffffssdrrd"}},
    };

    (void)state;
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        begin(&ways[way]);
        for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
            bool pieces = i % 2 != 0;
            const char *group = rows[i / 2].group;
            run(group, pieces, 0);
            assert_string_equal(events, (pieces ? rows[i / 2].pieces : rows[i / 2].whole)[way]);
            if (strchr(group, 'A') != NULL)
                check_file(STORED, pieces);
            if (strchr(group, 'B') != NULL)
                check_file(RELAYED, pieces);
            if (strchr(group, 'P') != NULL) {
                check_file(PAIR_STORED, pieces);
                check_file(PAIR_RELAYED, pieces);
            }
        }
        commit_close(&commit);
    }
}

/* Each event of a group of all three fails in turn: who is left. */
static void twins_end_alike_whatever_fails(void **state)
{
    static const struct {
        size_t way;
        const char *pattern; /* of the events, when none fails */
        const char *left[10];
    } rows[] = {
        /* the renames of A and P, the flush that is for all, those of B and P, relay's flush */
        {0, "ssFrrF", {"BP", "AB", "", "AP", "AB", "A"}},
        /* the same with a flush for each queue */
        {1, "ssFFrrF", {"BP", "AB", "B", "A", "AP", "AB", "A"}},
        {2, "ffffssdrrd", {"BP", "AP", "AB", "AB", "BP", "AB", "B", "AP", "AB", "A"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(&ways[rows[i].way]);
        for (size_t fails = 1; fails <= strlen(rows[i].pattern); fails++) {
            const char *left = rows[i].left[fails - 1];
            run("ABP", false, fails);
            assert_memory_equal(events, rows[i].pattern, fails);
            if (strchr(left, 'A') != NULL)
                check_file(STORED, false);
            else
                check_nothing(STORED, EIO);
            if (strchr(left, 'B') != NULL)
                check_file(RELAYED, false);
            else
                check_nothing(RELAYED, EIO);
            if (strchr(left, 'P') != NULL) {
                check_file(PAIR_STORED, false);
                check_file(PAIR_RELAYED, false);
            } else {
                check_nothing(PAIR_STORED, EIO);
                check_nothing(PAIR_RELAYED, EIO);
            }
        }
        commit_close(&commit);
    }
}

/* Without a queue's tmp/ its file cannot be made: the other's goes, too, before and in the commit. */
static void a_file_that_cannot_be_written_takes_its_twin_along(void **state)
{
    struct scratch *scratch = *state;

    begin(&ways[0]);
    for (int i = 0; i < 2 * QUEUE_COUNT; i++) {
        int *tmp = &scratch->spool.directories[i % 2][QUEUE_TMP], real = *tmp;
        struct writer *group[] = {&writers[PAIR_STORED], &writers[PAIR_RELAYED]};
        bool pieces = i >= 2;

        for (int which = PAIR_STORED; which <= PAIR_RELAYED; which++) {
            struct envelope envelope = message_envelope(ids[which]);
            if (which == PAIR_RELAYED)
                envelope.id = strcpy(ids[which], ids[PAIR_STORED]);
            writer_begin(&writers[which], spool, which == PAIR_STORED ? QUEUE_STORE : QUEUE_RELAY,
                         &envelope);
        }
        writer_pair(&writers[PAIR_STORED], &writers[PAIR_RELAYED]);
        *tmp = -1;
        for (int which = 0; which < 2; which++)
            if (pieces)
                writer_append(group[which], "piece", 5);
        for (int which = 0; which < 2; which++)
            writer_finish(group[which], "body", 4);
        *tmp = real;
        commit_run(&commit, group, 2);
        check_nothing(PAIR_STORED, EBADF);
        check_nothing(PAIR_RELAYED, EBADF);
    }
    commit_close(&commit);
}

/* A journal that was aborted before the flush leaves it nothing to do: it succeeds, and what it is of
 * is lost. Only that no change is taken any more gives that away. */
static void a_flush_is_not_believed_alone(void **state)
{
    struct scratch *scratch = *state;
    int *tmp = &scratch->spool.directories[QUEUE_STORE][QUEUE_TMP], real = *tmp;

    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        begin(&ways[way]);
        dying = tmp;
        run("AP", false, 0);
        dying = NULL;
        assert_int_equal(*tmp, -1);
        *tmp = real;
        check_nothing(STORED, EBADF);
        check_nothing(PAIR_STORED, EBADF);
        check_nothing(PAIR_RELAYED, EBADF);
        commit_close(&commit);
    }
}

static void abort_undoes_both(void **state)
{
    (void)state;
    for (int which = PAIR_STORED; which <= PAIR_RELAYED; which++) {
        write_file(PAIR_STORED, true);
        write_file(PAIR_RELAYED, true);
        assert_true(exists(QUEUE_STORE, QUEUE_TMP, ids[PAIR_STORED]));
        assert_true(exists(QUEUE_RELAY, QUEUE_TMP, ids[PAIR_STORED]));
        writer_abort(&writers[which]);
        check_nothing(PAIR_STORED, ECANCELED);
        check_nothing(PAIR_RELAYED, ECANCELED);
    }
}

static int setup(void **state)
{
    struct scratch *scratch;

    event_count = durable_count = failing = 0;
    dying = NULL;
    if (scratch_setup(state) != 0)
        return -1;
    scratch = *state;
    spool = &scratch->spool;
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(bytes_are_durable_before_relay_can_see_them),
        TEST(twins_end_alike_whatever_fails),
        TEST(a_file_that_cannot_be_written_takes_its_twin_along),
        TEST(a_flush_is_not_believed_alone),
        TEST(abort_undoes_both),
    };
    return cmocka_run_group_tests_name("queue/twins", tests, NULL, NULL);
}
