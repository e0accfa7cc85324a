/* Messages taken in hand: which file counts, which is none, and every byte of the content. */
#include "outgoing.h"

#include "faults.h"

#include "relay/mail.h"

#include <errno.h>

static enum mail_status load(const struct scratch *scratch, struct mail **mail,
                             enum queue_directory directory, const char *id)
{
    *mail = NULL;
    return mail_load(mail, &scratch->spool, directory, id);
}

static void a_message_is_loaded_with_its_first_piece(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing outgoing = outgoing_to(3);
    char id[ID_SIZE];
    struct mail *mail;

    outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_LOADED);
    assert_string_equal(mail->id, id);
    assert_int_equal(mail->directory, QUEUE_NEW);
    assert_int_equal(mail->count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(mail->recipients[i].address, outgoing_recipients[i]);
        assert_int_equal(mail->recipients[i].outcome, OUTCOME_OPEN);
        assert_false(mail->recipients[i].non_ascii);
        assert_null(mail->recipients[i].words);
    }
    assert_false(mail->sender_non_ascii);
    assert_string_equal(mail->reader.envelope.from, "alice@here.example");
    assert_int_equal(mail->survey.hops, 1);
    assert_false(mail->survey.eight_bit);
    assert_int_equal(mail->piece_length, outgoing.length);
    assert_memory_equal(mail->piece, outgoing.bytes, outgoing.length);
    assert_int_equal(mail_read(mail), 0);
    assert_int_equal(mail->piece_length, 0);
    mail_free(mail);
    assert_true(scratch_exists(scratch, QUEUE_NEW, id));
}

static void check_content(struct mail *mail, const char *bytes, size_t length)
{
    size_t at = 0;

    while (mail->piece_length > 0) {
        assert_true(mail->piece_length <= MAIL_PIECE && at + mail->piece_length <= length);
        assert_memory_equal(mail->piece, bytes + at, mail->piece_length);
        at += mail->piece_length;
        assert_int_equal(mail_read(mail), 0);
    }
    assert_int_equal(at, length);
}

static void the_content_comes_in_pieces_and_again(void **state)
{
    struct scratch *scratch = *state;
    static const size_t lengths[] = {
        0, 1, MAIL_PIECE - 1, MAIL_PIECE, MAIL_PIECE + 1, 5 * MAIL_PIECE + 77};
    static char bytes[6 * MAIL_PIECE];
    struct outgoing outgoing = outgoing_to(1);
    char id[ID_SIZE];
    struct mail *mail;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : (char)('A' + (i * 7 + i / 256) % 26);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        outgoing.bytes = bytes;
        outgoing.length = lengths[i];
        /* Seen only by who reads to the end. */
        if (lengths[i] > 0)
            bytes[lengths[i] - 1] = (char)0xe9;
        outgoing_put(scratch, QUEUE_CUR, id, &outgoing);
        assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_LOADED);
        assert_int_equal(mail->survey.eight_bit, lengths[i] > 0);
        check_content(mail, bytes, lengths[i]);
        for (int times = 0; times < 2; times++) {
            assert_int_equal(mail_rewind(mail), 0);
            check_content(mail, bytes, lengths[i]);
        }
        assert_int_equal(mail_rewind(mail), 0);
        assert_int_equal(mail_rewind(mail), 0);
        check_content(mail, bytes, lengths[i]);
        mail_free(mail);
        if (lengths[i] > 0)
            bytes[lengths[i] - 1] = 'z';
    }
}

static void every_address_must_be_one(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        const char *from, *to;
        bool fine, from_utf8, to_utf8;
    } rows[] = {
        {"alice@here.example", "bob@there.example", .fine = true},
        {"", "bob@there.example", .fine = true},
        {"", "Postmaster", .fine = true},
        {"\"a b>c\"@here.example", "\"<>\"@[192.0.2.1]", .fine = true},
        {"zo\xc3\xab@here.example", "bob@there.example", .fine = true, .from_utf8 = true},
        {"alice@here.example", "bob@d\xc3\xa9j\xc3\xa0.example", .fine = true, .to_utf8 = true},
        {"alice", "bob@there.example", .fine = false},
        {"postmaster", "bob@there.example", .fine = false},
        {"alice@here.example> SIZE=1", "bob@there.example", .fine = false},
        {"alice@here.example><", "bob@there.example", .fine = false},
        {"alice@here.example", "bob", .fine = false},
        {"alice@here.example", "bob@", .fine = false},
        {"alice@here.example", "bob@there example", .fine = false},
        {"alice@here.example", "bob b@there.example", .fine = false},
        {"alice@here.example", " bob@there.example", .fine = false},
        {"alice@here.example", "<bob@there.example>", .fine = false},
        {"alice@here.example", "bob@there.example> NOTIFY=NEVER", .fine = false},
        {"alice@here.example", "bob@there.example>", .fine = false},
        {"alice@here.example", "@a.example:bob@there.example", .fine = false},
        {"alice@here.example", "bob@there.example,carol@there.example", .fine = false},
        {"alice@here.example", "b\xff@there.example", .fine = false},
    };
    struct mail *mail;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* One bad address of several is enough. */
        const char *const recipients[] = {"erin@there.example", rows[i].to, "dave@there.example"};
        struct outgoing outgoing = outgoing_to(3);
        enum mail_status want = rows[i].fine ? MAIL_LOADED : MAIL_SET_ASIDE, got;
        char id[ID_SIZE], reason[ID_SIZE + 8], *text;
        size_t length;

        outgoing.from = rows[i].from;
        outgoing.recipients = recipients;
        outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
        got = load(scratch, &mail, QUEUE_NEW, id);
        if (got != want)
            fail_msg("<%s> <%s>: got %d, want %d", rows[i].from, rows[i].to, (int)got, (int)want);
        if (rows[i].fine) {
            assert_int_equal(mail->sender_non_ascii, rows[i].from_utf8);
            assert_int_equal(mail->recipients[1].non_ascii, rows[i].to_utf8);
            assert_false(mail->recipients[2].non_ascii);
            mail_free(mail);
            continue;
        }
        assert_false(scratch_exists(scratch, QUEUE_NEW, id));
        assert_true(scratch_exists(scratch, QUEUE_FAILED, id));
        snprintf(reason, sizeof reason, "%s.reason", id);
        text = scratch_read(scratch, QUEUE_FAILED, reason, &length);
        assert_string_equal(text, "an address in the envelope is none\n");
        free(text);
    }
}

/* As long as an envelope lets a line be. */
static void a_long_address_is_none(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing outgoing = outgoing_to(1);
    static char address[4070];
    const char *recipients[] = {address};
    char id[ID_SIZE];
    struct mail *mail;

    memset(address, 'b', sizeof address - 1);
    memcpy(address + sizeof address - 16, "@there.example", 15);
    outgoing.recipients = recipients;
    outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_SET_ASIDE);
}

static void what_is_no_message_is_set_aside(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing outgoing = outgoing_to(2);
    char id[ID_SIZE];
    struct mail *mail;

    id_make(id, outgoing.received);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_GONE);
    assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_GONE);
    for (int directory = QUEUE_NEW; directory <= QUEUE_CUR; directory++) {
        scratch_write(scratch, (enum queue_directory)directory, id, "X-Envelope-Id: torn", 19);
        assert_int_equal(load(scratch, &mail, (enum queue_directory)directory, id), MAIL_SET_ASIDE);
        assert_false(scratch_exists(scratch, (enum queue_directory)directory, id));
        assert_true(scratch_exists(scratch, QUEUE_FAILED, id));
        assert_null(mail);
    }
}

static void cur_counts_before_new(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing all = outgoing_to(3), rest = outgoing_to(1);
    char id[ID_SIZE];
    struct mail *mail;

    /* Asked for the one in new/: the other is not taken in its place, for it may not be due. */
    outgoing_put(scratch, QUEUE_NEW, id, &all);
    outgoing_write(scratch, QUEUE_CUR, id, &rest);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_SUPERSEDED);
    assert_null(mail);
    assert_false(scratch_exists(scratch, QUEUE_NEW, id));
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));

    /* Asked for the one in cur/: nothing is left that could come back when that is done with. */
    outgoing_write(scratch, QUEUE_NEW, id, &all);
    assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_LOADED);
    assert_int_equal(mail->count, 1);
    assert_int_equal(mail->directory, QUEUE_CUR);
    mail_free(mail);
    assert_false(scratch_exists(scratch, QUEUE_NEW, id));
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
}

/* cur/ID is there for sure before new/ID is gone, and new/ID is gone for sure before cur/ID goes on. */
static void what_is_superseded_goes_in_order(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing all = outgoing_to(3), rest = outgoing_to(1);

    for (int asked = QUEUE_NEW; asked <= QUEUE_CUR; asked++) {
        for (long call = 0; call <= 3; call++) {
            enum mail_status got;
            struct mail *mail;
            char id[ID_SIZE];
            outgoing_put(scratch, QUEUE_NEW, id, &all);
            outgoing_write(scratch, QUEUE_CUR, id, &rest);
            faults_arm(&scratch->spool, scratch_directory(scratch, QUEUE_TMP));
            faults.fail_at = call;
            got = load(scratch, &mail, (enum queue_directory)asked, id);
            faults_disarm();
            if (call > 0) {
                assert_int_equal(got, MAIL_UNREADABLE);
                assert_int_equal(scratch_exists(scratch, QUEUE_NEW, id), call < 3);
                continue;
            }
            assert_int_equal(faults.calls, 3);
            assert_int_equal(faults.directory_syncs, 2);
            assert_int_equal(faults.count, 1);
            assert_true(faults.changes[0].lasting);
            mail_free(mail);
        }
    }
}

static void a_broken_cur_does_not_count(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing all = outgoing_to(3);
    char id[ID_SIZE];
    struct mail *mail;

    for (int asked = QUEUE_NEW; asked <= QUEUE_CUR; asked++) {
        outgoing_put(scratch, QUEUE_NEW, id, &all);
        scratch_write(scratch, QUEUE_CUR, id, "noise", 5);
        if (asked == QUEUE_CUR)
            assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_SET_ASIDE);
        assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_LOADED);
        assert_int_equal(mail->count, 3);
        mail_free(mail);
        assert_false(scratch_exists(scratch, QUEUE_CUR, id));
        assert_true(scratch_exists(scratch, QUEUE_FAILED, id));
    }
}

/* Directories that cannot be used, as when the file system fails. */
static void what_the_system_fails_at_is_tried_again(void **state)
{
    struct scratch *scratch = *state;
    int *directories = scratch->spool.directories[QUEUE_RELAY];
    int new = directories[QUEUE_NEW], cur = directories[QUEUE_CUR];
    struct outgoing outgoing = outgoing_to(2);
    char id[ID_SIZE];
    struct mail *mail;

    outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
    directories[QUEUE_NEW] = -1;
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_UNREADABLE);
    directories[QUEUE_NEW] = new;

    /* Nobody can say whether cur/ID counts, so nobody sends new/ID. */
    directories[QUEUE_CUR] = -1;
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_UNREADABLE);
    directories[QUEUE_CUR] = cur;

    outgoing_write(scratch, QUEUE_CUR, id, &outgoing);
    directories[QUEUE_NEW] = -1;
    assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_UNREADABLE);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_UNREADABLE);
    directories[QUEUE_NEW] = new;
    assert_int_equal(load(scratch, &mail, QUEUE_CUR, id), MAIL_LOADED);
    mail_free(mail);
}

static void a_file_that_shrinks_is_an_error(void **state)
{
    struct scratch *scratch = *state;
    static char bytes[3 * MAIL_PIECE];
    struct outgoing outgoing = outgoing_to(1);
    char id[ID_SIZE];
    struct mail *mail;
    int file;

    memset(bytes, 'x', sizeof bytes);
    outgoing.bytes = bytes;
    outgoing.length = sizeof bytes;
    outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_LOADED);
    file = openat(scratch_directory(scratch, QUEUE_NEW), id, O_WRONLY);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, MAIL_PIECE + 5000), 0);
    close(file);
    assert_int_equal(mail_read(mail), EIO);
    assert_int_equal(mail->error, EIO);
    assert_int_equal(mail->piece_length, 0);
    assert_int_equal(mail_rewind(mail), 0);
    assert_int_equal(mail->error, 0);
    assert_int_equal(mail->piece_length, MAIL_PIECE);
    mail_free(mail);
}

static void ten_thousand_recipients(void **state)
{
    struct scratch *scratch = *state;
    enum { COUNT = 10000 };
    static char addresses[COUNT][32];
    static const char *recipients[COUNT];
    struct outgoing outgoing = outgoing_to(COUNT);
    char id[ID_SIZE];
    struct mail *mail;

    for (size_t i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof addresses[i], "r%zu@there.example", i);
        recipients[i] = addresses[i];
    }
    outgoing.recipients = recipients;
    outgoing_put(scratch, QUEUE_NEW, id, &outgoing);
    assert_int_equal(load(scratch, &mail, QUEUE_NEW, id), MAIL_LOADED);
    assert_int_equal(mail->count, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_string_equal(mail->recipients[i].address, addresses[i]);
    assert_memory_equal(mail->piece, outgoing.bytes, outgoing.length);
    mail_free(mail);
    mail_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, outgoing_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_is_loaded_with_its_first_piece),
        TEST(the_content_comes_in_pieces_and_again),
        TEST(every_address_must_be_one),
        TEST(a_long_address_is_none),
        TEST(what_is_no_message_is_set_aside),
        TEST(cur_counts_before_new),
        TEST(what_is_superseded_goes_in_order),
        TEST(a_broken_cur_does_not_count),
        TEST(what_the_system_fails_at_is_tried_again),
        TEST(a_file_that_shrinks_is_an_error),
        TEST(ten_thousand_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
