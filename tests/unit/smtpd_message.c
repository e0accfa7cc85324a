/* Messages on their way to the disk, and the groups they are committed in, on a real loop with a
 * real spool: small ones, large ones in pieces, ones that are given up at any moment. */
#include "smtpd/message.h"

#include "scratch.h"

#include "queue/reader.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* An owner, and what it was told. */
struct owner {
    struct message *message;
    int rooms, failures, ends;
    int error;
};

static uv_loop_t loop;
static pthread_t loop_thread;
static int unlinked, unlinked_here; /* files, and those of them by the loop's thread */

/* In place of the C library's. */
int unlinkat(int directory, const char *path, int flags)
{
    unlinked++;
    unlinked_here += pthread_equal(pthread_self(), loop_thread) != 0;
    return (int)syscall(SYS_unlinkat, directory, path, flags);
}

static int until_write_fails; /* writes until one finds the disk full; 0: none will */

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    struct stat status;

    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && until_write_fails > 0 &&
        --until_write_fails == 0) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_writev, descriptor, parts, count);
}

static struct committer committer;
static int released;

static void released_cb(struct committer *of)
{
    assert_ptr_equal(of, &committer);
    released++;
}

static void room_cb(void *data)
{
    struct owner *owner = data;
    owner->rooms++;
    assert_true(message_room(owner->message) > 0);
}

static void failed_cb(void *data, int error)
{
    struct owner *owner = data;
    owner->failures++;
    owner->error = error;
    message_abort(owner->message);
}

static void ended_cb(void *data, int error)
{
    struct owner *owner = data;
    owner->ends++;
    owner->error = error;
}

static const struct message_callbacks callbacks = {room_cb, failed_cb, ended_cb};

static int begin(void **state)
{
    struct scratch *scratch;

    if (scratch_setup(state) != 0)
        return -1;
    scratch = *state;
    released = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(committer_start(&committer, &loop, &scratch->spool), 0);
    committer.released_cb = released_cb;
    return 0;
}

/* Every test ends with an empty loop and an empty tmp/. */
static int end(void **state)
{
    struct scratch *scratch = *state;
    struct dirent *entry;
    DIR *tmp;

    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(committer.messages, 0);
    committer_stop(&committer);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        tmp = fdopendir(dup(scratch->spool.directories[queue][QUEUE_TMP]));
        assert_non_null(tmp);
        while ((entry = readdir(tmp)) != NULL)
            assert_int_equal(entry->d_name[0], '.');
        closedir(tmp);
    }
    return scratch_teardown(state);
}

/* A message to so many mailboxes of each queue, opened; its id is written to `id`. */
static void open_for(struct owner *owner, int stored, int relayed, char id[static ID_SIZE])
{
    struct transaction transaction = {0};
    const struct message_origin origin = {
        .hostname = "mx.example", .helo = "c.example", .protocol = "ESMTP", .client = {{0}, 25}};
    char sender[] = "a@c.example", mailbox[32];

    transaction.sender = sender;
    for (int i = 0; i < stored + relayed; i++) {
        enum queue queue = i < stored ? QUEUE_STORE : QUEUE_RELAY;
        struct path path;
        struct slice rest;
        snprintf(mailbox, sizeof mailbox, "<b%d@%s.example>", i < stored ? i : i - stored,
                 queue == QUEUE_STORE ? "t" : "far");
        assert_true(path_parse_forward(slice_of(mailbox), &path, &rest));
        assert_true(recipients_add(&transaction.recipients[queue], &path));
    }
    *owner = (struct owner){0};
    owner->message = message_open(&committer, &transaction, &origin, &callbacks, owner);
    assert_non_null(owner->message);
    memcpy(id, transaction.id, ID_SIZE);
    assert_true(id_valid(id));
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        recipients_free(&transaction.recipients[queue]);
}

static void open_message(struct owner *owner, int recipients, char id[static ID_SIZE])
{
    open_for(owner, recipients, 0, id);
}

/* Octet `at` of every content in this file. */
static char octet(size_t at)
{
    return (char)(at * 2654435761u >> 13);
}

/* Gives octets from `at` to `size` as fast as they are taken. */
static void append_from(struct owner *owner, size_t at, size_t size)
{
    static char piece[100000];

    while (at < size) {
        size_t length = message_room(owner->message);
        if (length > size - at)
            length = size - at;
        if (length > sizeof piece)
            length = sizeof piece;
        if (length == 0) {
            uv_run(&loop, UV_RUN_ONCE);
            continue;
        }
        for (size_t i = 0; i < length; i++)
            piece[i] = octet(at + i);
        message_append(owner->message, slice_make(piece, length));
        at += length;
    }
}

/* As append, and then the end, unless the message fails before. */
static void append_while_taken(struct owner *owner, size_t size)
{
    for (size_t at = 0; at < size && owner->failures == 0;) {
        size_t room = message_room(owner->message), left = size - at;
        char piece[1000];
        size_t length = room < left ? room : left;
        if (length > sizeof piece)
            length = sizeof piece;
        for (size_t i = 0; i < length; i++)
            piece[i] = octet(at + i);
        message_append(owner->message, slice_make(piece, length));
        at += length;
        uv_run(&loop, length == 0 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    }
    if (owner->failures == 0)
        message_finish(owner->message);
}

static void append(struct owner *owner, size_t size)
{
    append_from(owner, 0, size);
}

/* The message is in new/ of a queue, for so many recipients of that queue, with its trace fields and
 * that content. */
static void check_file(const struct scratch *scratch, enum queue queue, const char *id,
                       size_t recipients, size_t size)
{
    static const char *const traces[] = {"Return-Path: <a@c.example>\r\nReceived: from c.example (",
                                         "Received: from c.example ("};
    static const char *const domains[] = {"t", "far"};
    struct reader reader;
    char *raw;
    size_t head;

    assert_int_equal(reader_open(&reader, &scratch->spool, queue, QUEUE_NEW, id), READER_OK);
    assert_string_equal(reader.envelope.from, "a@c.example");
    assert_int_equal(reader.envelope.recipients_count, recipients);
    for (size_t i = 0; i < recipients; i++) {
        char mailbox[32];
        snprintf(mailbox, sizeof mailbox, "b%zu@%s.example", i, domains[queue]);
        assert_string_equal(reader.envelope.recipients[i], mailbox);
    }
    assert_true(reader.envelope.size > size);
    head = reader.envelope.size - size;
    raw = malloc(reader.envelope.size);
    assert_non_null(raw);
    assert_int_equal(reader_read(&reader, raw, reader.envelope.size), 0);
    assert_memory_equal(raw, traces[queue], strlen(traces[queue]));
    assert_memory_equal(raw + head - 2, "\r\n", 2);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(raw[head + i], octet(i));
    free(raw);
    reader_close(&reader);
}

static void check_stored(const struct scratch *scratch, const char *id, size_t size)
{
    check_file(scratch, QUEUE_STORE, id, 1, size);
}

static void check_nowhere(const struct scratch *scratch, const char *id)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        for (int directory = QUEUE_TMP; directory <= QUEUE_NEW; directory++)
            assert_int_not_equal(
                faccessat(scratch->spool.directories[queue][directory], id, F_OK, 0), 0);
}

static void every_size_is_stored_as_it_came(void **state)
{
    static const size_t sizes[] = {0,     1,      1000,   60000,  65535,   65536,
                                   65537, 131071, 131072, 131073, 1000000, 5000003};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_message(&owner, 1, id);
        append(&owner, sizes[i]);
        message_finish(owner.message);
        assert_int_equal(owner.ends, 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 1);
        assert_int_equal(owner.error, 0);
        assert_int_equal(owner.failures, 0);
        check_stored(*state, id, sizes[i]);
    }
    assert_int_equal(released, sizeof sizes / sizeof sizes[0]);
}

/* The more messages are open, the less each may hold; one that holds more already goes on, and so
 * does one whose share grows again. */
static void the_share_of_a_message_shrinks_and_grows(void **state)
{
    enum { OTHERS = MESSAGES_HELD_MAX / MESSAGE_HELD_MIN };
    static const size_t before[] = {0, 1, 4000, 5000, 60000, 65000, 200000};

    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_message(&owner, 1, id);
        append(&owner, before[i]);
        committer.messages += OTHERS;
        assert_true(message_room(owner.message) <= MESSAGE_HELD_MIN);
        append_from(&owner, before[i], before[i] + 100000);
        committer.messages -= OTHERS;
        append_from(&owner, before[i] + 100000, before[i] + 300000);
        message_finish(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.error, 0);
        check_stored(*state, id, before[i] + 300000);
    }
}

/* The disk is slower than memory: two buffers are filled, no more. */
static void what_is_held_is_bounded(void **state)
{
    static char piece[MESSAGE_HELD_MAX];
    struct owner owner;
    size_t taken = 0, room;
    char id[ID_SIZE];

    (void)state;
    open_message(&owner, 1, id);
    while ((room = message_room(owner.message)) > 0) {
        message_append(owner.message, slice_make(piece, room));
        taken += room;
    }
    assert_true(taken <= 2 * MESSAGE_HELD_MAX);
    assert_int_equal(owner.rooms, 0);
    while (owner.rooms == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_true(message_room(owner.message) > 0);
    message_abort(owner.message);
}

static void one_that_is_given_up_leaves_nothing(void **state)
{
    static const size_t sizes[] = {0, 1000, 65536, 200000, 1000000};
    struct scratch *scratch = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_message(&owner, 1, id);
        append(&owner, sizes[i]);
        message_abort(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 0);
        assert_int_equal(released, (int)i + 1);
        assert_int_not_equal(
            faccessat(scratch->spool.directories[QUEUE_STORE][QUEUE_NEW], id, F_OK, 0), 0);
    }
}

/* Once finished it is stored whether somebody waits for it or not. */
static void one_that_is_finished_is_stored_all_the_same(void **state)
{
    static const size_t sizes[] = {1000, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_message(&owner, 1, id);
        append(&owner, sizes[i]);
        message_finish(owner.message);
        message_abort(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 0);
        check_stored(*state, id, sizes[i]);
    }
}

static void messages_of_one_moment_are_one_group(void **state)
{
    enum { COUNT = 700 };
    static struct owner owners[COUNT];
    static char ids[COUNT][ID_SIZE];
    int first = 0;

    for (int i = 0; i < COUNT; i++) {
        open_message(&owners[i], 1 + i % 3, ids[i]);
        append(&owners[i], (size_t)i);
        message_finish(owners[i].message);
    }
    while (owners[0].ends == 0)
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < COUNT; i++)
        first += owners[i].ends;
    assert_int_equal(first, COMMIT_GROUP_MAX);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(owners[i].ends, 1);
        assert_int_equal(owners[i].error, 0);
        check_file(*state, QUEUE_STORE, ids[i], (size_t)(1 + i % 3), (size_t)i);
    }
}

static void mail_for_nobody_is_dropped(void **state)
{
    struct scratch *scratch = *state;
    struct owner owner;
    char id[ID_SIZE];

    open_message(&owner, 0, id);
    append(&owner, 1000000);
    message_finish(owner.message);
    assert_int_equal(owner.ends, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(owner.ends, 1);
    assert_int_equal(owner.error, 0);
    assert_int_not_equal(faccessat(scratch->spool.directories[QUEUE_STORE][QUEUE_NEW], id, F_OK, 0),
                         0);
}

/* RLIMIT_FSIZE plays the full disk: EFBIG in the middle of a message, or at its end. */
static void a_disk_error_is_told(void **state)
{
    struct rlimit limit, small;
    struct owner owner;
    char id[ID_SIZE];

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = (struct rlimit){100000, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);

    open_message(&owner, 1, id);
    append(&owner, 150000);
    message_finish(owner.message);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(owner.ends, 1);
    assert_int_equal(owner.error, EFBIG);

    open_message(&owner, 1, id);
    while (owner.failures == 0) {
        static char piece[1000];
        size_t room = message_room(owner.message);
        if (room > 0)
            message_append(owner.message,
                           slice_make(piece, room < sizeof piece ? room : sizeof piece));
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(owner.error, EFBIG);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(owner.ends, 0);

    setrlimit(RLIMIT_FSIZE, &limit);
    open_message(&owner, 1, id);
    append(&owner, 150000);
    message_finish(owner.message);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(owner.error, 0);
    check_stored(*state, id, 150000);
}

/* More than there is room for plays the memory that is out. What is there of the message is
 * unlinked by the pool: the loop's thread does not wait for the disk. */
static void a_message_that_memory_is_out_for_is_undone_by_the_pool(void **state)
{
    static char piece[2 * MESSAGE_HELD_MAX + 2];
    static const size_t sizes[] = {0, 200000};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_message(&owner, 1, id);
        append(&owner, sizes[i]);
        unlinked = unlinked_here = 0;
        loop_thread = pthread_self();
        message_append(owner.message, slice_make(piece, sizeof piece));
        message_finish(owner.message);
        assert_int_equal(owner.ends, 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 1);
        assert_int_equal(owner.error, ENOMEM);
        assert_int_equal(unlinked, sizes[i] > 0);
        assert_int_equal(unlinked_here, 0);
    }
}

/* For relay alone, and for both queues: a file in each, with what is its own in it. */
static void each_queue_has_a_file_of_its_own(void **state)
{
    static const size_t sizes[] = {0, 1, 65537, 200000, 1000000};
    static const struct {
        int stored, relayed;
    } rows[] = {{0, 1}, {0, 3}, {1, 1}, {2, 1}, {1, 40}, {1, 0}};
    struct scratch *scratch = *state;

    for (size_t i = 0; i < 5 * sizeof rows / sizeof rows[0]; i++) {
        int counts[QUEUE_COUNT] = {rows[i / 5].stored, rows[i / 5].relayed};
        struct owner owner;
        char id[ID_SIZE];
        open_for(&owner, counts[QUEUE_STORE], counts[QUEUE_RELAY], id);
        append(&owner, sizes[i % 5]);
        message_finish(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 1);
        assert_int_equal(owner.error, 0);
        for (int queue = 0; queue < QUEUE_COUNT; queue++) {
            if (counts[queue] > 0)
                check_file(scratch, (enum queue)queue, id, (size_t)counts[queue], sizes[i % 5]);
            else
                assert_int_not_equal(
                    faccessat(scratch->spool.directories[queue][QUEUE_NEW], id, F_OK, 0), 0);
        }
    }
}

/* Several may not learn of each other: nor of one in another queue. */
static void only_one_in_all_is_named_in_the_trace(void **state)
{
    static const struct {
        int stored, relayed;
        const char *named; /* or NULL */
    } rows[] = {{1, 0, "for <b0@t.example>;"},
                {0, 1, "for <b0@far.example>;"},
                {1, 1, NULL},
                {2, 0, NULL},
                {0, 2, NULL}};
    struct scratch *scratch = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_for(&owner, rows[i].stored, rows[i].relayed, id);
        message_finish(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.error, 0);
        for (int queue = 0; queue < QUEUE_COUNT; queue++) {
            char raw[1000] = "";
            struct reader reader;
            if ((queue == QUEUE_STORE ? rows[i].stored : rows[i].relayed) == 0)
                continue;
            assert_int_equal(
                reader_open(&reader, &scratch->spool, (enum queue)queue, QUEUE_NEW, id), READER_OK);
            assert_int_equal(reader_read(&reader, raw, reader.envelope.size), 0);
            if (rows[i].named != NULL)
                assert_non_null(strstr(raw, rows[i].named));
            else
                assert_null(strstr(raw, "for <"));
            reader_close(&reader);
        }
    }
}

/* The disk of either queue fails: at each write of a message of several pieces, and at the only one of
 * a small message. Nothing is left in both. */
static void one_that_fails_in_one_queue_is_in_neither(void **state)
{
    static const size_t sizes[] = {1000, 300000};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int fails = 1;; fails++) {
            struct owner owner;
            char id[ID_SIZE];
            open_for(&owner, 2, 2, id);
            until_write_fails = fails;
            append_while_taken(&owner, sizes[i]);
            uv_run(&loop, UV_RUN_DEFAULT);
            if (until_write_fails > 0) { /* all of it was written before */
                until_write_fails = 0;
                assert_int_equal(owner.error, 0);
                assert_true(fails > 2);
                check_file(*state, QUEUE_STORE, id, 2, sizes[i]);
                check_file(*state, QUEUE_RELAY, id, 2, sizes[i]);
                break;
            }
            assert_int_equal(owner.failures + owner.ends, 1);
            assert_int_equal(owner.error, ENOSPC);
            check_nowhere(*state, id);
        }
}

static void one_for_both_that_is_given_up_leaves_nothing(void **state)
{
    static const size_t sizes[] = {0, 1000, 65536, 200000, 1000000};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct owner owner;
        char id[ID_SIZE];
        open_for(&owner, 1, 1, id);
        append(&owner, sizes[i]);
        loop_thread = pthread_self();
        unlinked_here = 0;
        message_abort(owner.message);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(owner.ends, 0);
        assert_int_equal(unlinked_here, 0);
        check_nowhere(*state, id);
    }
}

/* A group holds as many files as it may, not twice as many. */
static void messages_of_two_files_fill_a_group_sooner(void **state)
{
    enum { COUNT = 300 };
    static struct owner owners[COUNT];
    static char ids[COUNT][ID_SIZE];
    int first = 0;

    for (int i = 0; i < COUNT; i++) {
        open_for(&owners[i], 1, i > 0, ids[i]);
        message_finish(owners[i].message);
    }
    while (owners[0].ends == 0)
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < COUNT; i++)
        first += owners[i].ends;
    assert_int_equal(first, 1 + (COMMIT_GROUP_MAX - 1) / 2);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(owners[i].error, 0);
        check_file(*state, QUEUE_STORE, ids[i], 1, 0);
        if (i > 0)
            check_file(*state, QUEUE_RELAY, ids[i], 1, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_is_stored_as_it_came),
        TEST(the_share_of_a_message_shrinks_and_grows),
        TEST(what_is_held_is_bounded),
        TEST(one_that_is_given_up_leaves_nothing),
        TEST(one_that_is_finished_is_stored_all_the_same),
        TEST(messages_of_one_moment_are_one_group),
        TEST(mail_for_nobody_is_dropped),
        TEST(a_disk_error_is_told),
        TEST(a_message_that_memory_is_out_for_is_undone_by_the_pool),
        TEST(each_queue_has_a_file_of_its_own),
        TEST(only_one_in_all_is_named_in_the_trace),
        TEST(one_that_fails_in_one_queue_is_in_neither),
        TEST(one_for_both_that_is_given_up_leaves_nothing),
        TEST(messages_of_two_files_fill_a_group_sooner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
