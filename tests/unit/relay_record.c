/* What became of each recipient, on the disk: every combination of outcomes, and the same end
 * wherever the process dies, the power fails, or the file system does, with one notification. */
#include "outgoing.h"

#include "faults.h"

#include "relay/record.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* The first letter of a recipient says what the smarthost says to it, every time: accepted, deferred,
 * failed, again, or nothing (open). */
static enum outcome outcome_of(const char *address)
{
    switch (address[0]) {
    case 'a':
        return OUTCOME_ACCEPTED;
    case 'd':
        return OUTCOME_DEFERRED;
    case 'f':
        return OUTCOME_FAILED;
    case 'g':
        return OUTCOME_AGAIN;
    default:
        return OUTCOME_OPEN;
    }
}

static const char *const words_of[] = {
    [OUTCOME_OPEN] = NULL,
    [OUTCOME_ACCEPTED] = "250 2.0.0 Ok: queued as 12345",
    [OUTCOME_AGAIN] = "452 4.5.3 Too many recipients",
    [OUTCOME_DEFERRED] = "451 4.3.0 try later",
    [OUTCOME_FAILED] = "550 5.1.1 No such user",
};

static const char *const status_of[] = {
    [OUTCOME_OPEN] = "",          [OUTCOME_ACCEPTED] = "2.0.0", [OUTCOME_AGAIN] = "4.5.3",
    [OUTCOME_DEFERRED] = "4.3.0", [OUTCOME_FAILED] = "5.1.1",
};

static const int64_t second = 1000000;
static const int64_t received = INT64_C(1795288091123456);
static const int64_t day = INT64_C(86400) * 1000000;

struct world {
    struct scratch *scratch;
    struct site site;
    struct recorder recorder;
    int attic;
};

static struct world world;

static int setup(void **state)
{
    char *stored[] = {(char *)"here.example"}, *relayed[] = {(char *)"away.example"};

    outgoing_setup(state);
    world = (struct world){.scratch = *state};
    assert_true(names_build(&world.site.domains, stored, 1));
    assert_true(names_build(&world.site.relay_domains, relayed, 1));
    world.recorder = (struct recorder){
        .spool = &world.scratch->spool,
        .site = &world.site,
        .hostname = "relay.here.example",
        .smarthost = "smarthost.example",
        .max_age = 5 * day,
    };
    assert_int_equal(recorder_open(&world.recorder), 0);
    assert_int_equal(mkdirat(world.scratch->spool.root, "attic", 0700), 0);
    world.attic = openat(world.scratch->spool.root, "attic", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(world.attic >= 0);
    return 0;
}

static int teardown(void **state)
{
    faults_disarm();
    recorder_close(&world.recorder);
    names_free(&world.site.domains);
    names_free(&world.site.relay_domains);
    close(world.attic);
    return scratch_teardown(state);
}

static int directory_of(enum queue queue, enum queue_directory directory)
{
    return world.scratch->spool.directories[queue][directory];
}

/* Calls back for each name in a directory; returns how many there are. */
static size_t each_name(int directory, void (*name_cb)(int directory, const char *name))
{
    DIR *stream = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY));
    struct dirent *entry;
    size_t count = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        if (name_cb != NULL)
            name_cb(directory, entry->d_name);
    }
    closedir(stream);
    return count;
}

static void remove_cb(int directory, const char *name)
{
    faults_unlink(directory, name, 0);
}

static void empty_spool(void)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++)
            each_name(directory_of((enum queue)queue, (enum queue_directory)i), remove_cb);
    each_name(world.attic, remove_cb);
}

/* A message to record, with the recipients that `letters` stands for: `ad`: a0@…, d1@…. */
struct post {
    const char *letters;
    const char *from;
    enum queue_directory directory;
    const char *bytes;
    size_t length;
};

static void put(const struct post *post, char id[static ID_SIZE])
{
    char addresses[16][32];
    const char *recipients[16];
    struct outgoing outgoing = outgoing_to(0);

    for (size_t i = 0; post->letters[i] != '\0'; i++) {
        snprintf(addresses[i], sizeof addresses[i], "%c%zu@there.example", post->letters[i], i);
        recipients[outgoing.count++] = addresses[i];
    }
    outgoing.recipients = recipients;
    outgoing.from = post->from;
    if (post->bytes != NULL) {
        outgoing.bytes = post->bytes;
        outgoing.length = post->length;
    }
    outgoing_put(world.scratch, post->directory, id, &outgoing);
    if (post->directory == QUEUE_CUR)
        outgoing_touch(world.scratch, QUEUE_CUR, id, -10);
}

/* What the smarthost says to all that are left; returns to how many it said yes. */
static size_t decide(struct mail *mail)
{
    size_t accepted = 0;

    for (size_t i = 0; i < mail->count; i++) {
        enum outcome outcome = outcome_of(mail->recipients[i].address);
        mail_decide(mail, i, outcome, status_of[outcome], words_of[outcome], false);
        accepted += outcome == OUTCOME_ACCEPTED;
    }
    return accepted;
}

static struct mail *load(const char *id)
{
    enum queue_directory directory =
        scratch_exists(world.scratch, QUEUE_CUR, id) ? QUEUE_CUR : QUEUE_NEW;
    struct mail *mail = NULL;
    enum mail_status status = mail_load(&mail, &world.scratch->spool, directory, id);

    if (status == MAIL_LOADED) {
        status = record_resume(&world.recorder, mail);
        if (status != MAIL_LOADED) {
            mail_free(mail);
            mail = NULL;
        }
    }
    assert_true(status == MAIL_LOADED || status == MAIL_GONE);
    return mail;
}

/* A life of relay in short: returns how many recipients were accepted in it. */
static size_t live(const char *id)
{
    struct mail *mail = load(id);
    size_t accepted;

    if (mail == NULL)
        return 0;
    accepted = decide(mail);
    record_run(&world.recorder, mail, received + 100 * second);
    assert_int_equal(mail->error, 0);
    mail_free(mail);
    return accepted;
}

/* What a file of relay/ has for recipients, by their letters, and whether it is the message. */
static void read_letters(enum queue_directory directory, const char *name, const char *id,
                         const struct post *post, char letters[static 32])
{
    struct reader reader;
    size_t length = post->bytes != NULL ? post->length : sizeof outgoing_message - 1;
    char *bytes = malloc(length + 1);

    letters[0] = '\0';
    assert_non_null(bytes);
    switch (reader_open_named(&reader, &world.scratch->spool, QUEUE_RELAY, directory, name, id)) {
    case READER_GONE:
        break;
    case READER_OK:
        for (size_t i = 0; i < reader.envelope.recipients_count; i++)
            snprintf(letters + i, 2, "%c", reader.envelope.recipients[i][0]);
        assert_string_equal(reader.envelope.from, post->from);
        assert_string_equal(reader.envelope.helo, "program.here.example");
        assert_int_equal(reader.envelope.client_port, 43210);
        assert_true(reader.envelope.received == received);
        assert_int_equal(reader.envelope.size, length);
        assert_int_equal(reader_read(&reader, bytes, length), 0);
        assert_memory_equal(bytes, post->bytes != NULL ? post->bytes : outgoing_message, length);
        reader_close(&reader);
        break;
    default:
        fail_msg("%s: %s", name, reader.why);
    }
    free(bytes);
}

static void filter(const char *letters, const char *wanted, char filtered[static 32])
{
    size_t length = 0;

    for (; *letters != '\0'; letters++)
        if (strchr(wanted, *letters) != NULL)
            filtered[length++] = *letters;
    filtered[length] = '\0';
}

static size_t notifications_in(enum queue queue)
{
    DIR *stream = fdopendir(openat(directory_of(queue, QUEUE_NEW), ".", O_RDONLY | O_DIRECTORY));
    struct dirent *entry;
    struct reader reader;
    size_t count = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        if (!id_valid(entry->d_name))
            continue;
        assert_int_equal(
            reader_open(&reader, &world.scratch->spool, queue, QUEUE_NEW, entry->d_name),
            READER_OK);
        count += strcmp(reader.envelope.protocol, "LOCAL") == 0;
        reader_close(&reader);
    }
    closedir(stream);
    return count;
}

/* Takes away the notifications, as those do that store or send them. */
static size_t consume_notifications(const char *id)
{
    size_t count = notifications_in(QUEUE_STORE) + notifications_in(QUEUE_RELAY);
    DIR *stream = fdopendir(openat(directory_of(QUEUE_RELAY, QUEUE_NEW), ".", O_RDONLY));
    struct dirent *entry;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL)
        if (id_valid(entry->d_name) && strcmp(entry->d_name, id) != 0)
            faults_unlink(directory_of(QUEUE_RELAY, QUEUE_NEW), entry->d_name, 0);
    closedir(stream);
    each_name(directory_of(QUEUE_STORE, QUEUE_NEW), remove_cb);
    return count;
}

static size_t wanted_notifications(const struct post *post)
{
    return strchr(post->letters, 'f') != NULL && (strstr(post->from, "@here.example") != NULL ||
                                                  strstr(post->from, "@away.example") != NULL);
}

/* The one end that all ways lead to; `notifications` were taken away on the way. */
static void check_end(const struct post *post, const char *id, size_t notifications,
                      const char *where)
{
    char got[32], want[32], name[128];
    bool opens_only = strspn(post->letters, "o") == strlen(post->letters);
    enum queue_directory live = opens_only ? post->directory : QUEUE_CUR;
    size_t here = notifications_in(QUEUE_STORE) + notifications_in(QUEUE_RELAY);

    filter(post->letters, "dgo", want);
    read_letters(live, id, id, post, got);
    if (strcmp(got, want) != 0)
        fail_msg("%s: to do: got `%s`, want `%s`", where, got, want);
    if (!opens_only || post->directory == QUEUE_CUR)
        assert_false(scratch_exists(world.scratch, QUEUE_NEW, id));
    snprintf(name, sizeof name, "%s.reason", id);
    if (strpbrk(post->letters, "dg") != NULL && !scratch_exists(world.scratch, QUEUE_CUR, name))
        fail_msg("%s: no reason in cur/", where);
    if (want[0] == '\0' && scratch_exists(world.scratch, QUEUE_CUR, name))
        fail_msg("%s: a reason alone in cur/", where);

    filter(post->letters, "f", want);
    read_letters(QUEUE_FAILED, id, id, post, got);
    if (strcmp(got, want) != 0)
        fail_msg("%s: failed: got `%s`, want `%s`", where, got, want);
    if (want[0] != '\0')
        assert_true(scratch_exists(world.scratch, QUEUE_FAILED, name));
    snprintf(name, sizeof name, "%s.1", id);
    assert_false(scratch_exists(world.scratch, QUEUE_FAILED, name));
    if (notifications + here != wanted_notifications(post))
        fail_msg("%s: %zu notifications, want %zu", where, notifications + here,
                 wanted_notifications(post));
    if (wanted_notifications(post) > 0 && notifications == 0)
        assert_int_equal(
            notifications_in(strstr(post->from, "@here") != NULL ? QUEUE_STORE : QUEUE_RELAY), 1);
    snprintf(name, sizeof name, "%s.notification", id);
    assert_false(scratch_exists(world.scratch, QUEUE_FAILED, name));
    assert_true(faccessat(directory_of(QUEUE_STORE, QUEUE_FAILED), name, F_OK, 0) < 0);
}

static const char *const combinations[] = {"a",      "d",  "f",   "ad", "af",  "df",   "adf",
                                           "aaddff", "fd", "fda", "g",  "ag",  "agdf", "fffa",
                                           "ao",     "fo", "o",   "go", "afo", "gfdao"};
static const char *const senders[] = {"alice@here.example", "alice@away.example",
                                      "alice@nowhere.example", ""};
enum {
    COMBINATIONS = sizeof combinations / sizeof combinations[0],
    SENDERS = sizeof senders / sizeof senders[0]
};

static void every_combination_has_its_end(void **state)
{
    (void)state;
    for (size_t c = 0; c < COMBINATIONS; c++)
        for (size_t s = 0; s < SENDERS; s++)
            for (int directory = QUEUE_NEW; directory <= QUEUE_CUR; directory++) {
                struct post post = {combinations[c], senders[s], (enum queue_directory)directory,
                                    NULL, 0};
                char id[ID_SIZE];
                empty_spool();
                put(&post, id);
                live(id);
                check_end(&post, id, 0, post.letters);
                assert_int_equal(each_name(directory_of(QUEUE_RELAY, QUEUE_TMP), NULL), 0);
                assert_int_equal(each_name(directory_of(QUEUE_STORE, QUEUE_TMP), NULL), 0);
                /* Another try has nothing new to say. */
                if (strchr(post.letters, 'o') == NULL)
                    live(id);
                check_end(&post, id, 0, "once more");
            }
}

/* A child lives until it dies at a call. Returns false when it lived to its end. */
static bool die(const char *id, long call, unsigned lost, bool *recorded)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(&world.scratch->spool, world.attic);
        faults.die_at = call;
        faults.lost = lost;
        faults.recorded = recorded;
        live(id);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

/* What a crash takes with it: nothing that was written, or in some directories all that was not
 * synced. */
static const unsigned losses[] = {
    0,
    1 << QUEUE_TMP | 1 << QUEUE_NEW | 1 << QUEUE_CUR | 1 << QUEUE_FAILED,
    1 << QUEUE_NEW,
    1 << QUEUE_CUR,
    1 << QUEUE_FAILED,
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

static void crash(const struct post *post, long call, unsigned lost, bool consume, bool twice,
                  bool *recorded, bool *died)
{
    char id[ID_SIZE], where[128];
    size_t consumed = 0, accepted;

    empty_spool();
    put(post, id);
    *recorded = false;
    *died = die(id, call, lost, recorded);
    if (consume)
        consumed += consume_notifications(id);
    if (twice) {
        die(id, call / 2 + 1, lost, NULL);
        if (consume)
            consumed += consume_notifications(id);
    }
    accepted = live(id);
    snprintf(where, sizeof where, "%s of <%s> in %s/, call %ld, lost %u, consume %d, twice %d",
             post->letters, post->from, queue_directory_names[post->directory], call, lost, consume,
             twice);
    if (*recorded && accepted > 0)
        fail_msg("%s: %zu sent to again", where, accepted);
    check_end(post, id, consumed, where);
}

static void wherever_it_dies_the_end_is_the_same(void **state)
{
    (void)state;
    bool *recorded =
        mmap(NULL, sizeof *recorded, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(recorded != MAP_FAILED);
    for (size_t c = 0; c < COMBINATIONS; c++) {
        /* Whom it goes to matters to failures only. */
        size_t count = strchr(combinations[c], 'f') != NULL ? SENDERS : 1;
        for (size_t run = 0; run < 2 * LOSSES * count; run++) {
            struct post post = {combinations[c], senders[run / 2 / LOSSES],
                                run % 2 == 0 ? QUEUE_NEW : QUEUE_CUR, NULL, 0};
            unsigned lost = losses[run / 2 % LOSSES];
            bool died = true;
            for (long call = 1; died; call++) {
                /* What was sent, and whose rename the power then took, is sent again. */
                bool consume = call % 2 == 0 && (lost & 1 << QUEUE_NEW) == 0;
                crash(&post, call, lost, consume, (call + (long)c) % 3 == 0, recorded, &died);
            }
        }
    }
    munmap(recorded, sizeof *recorded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_combination_has_its_end, setup, teardown),
        cmocka_unit_test_setup_teardown(wherever_it_dies_the_end_is_the_same, setup, teardown),
    };
    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
