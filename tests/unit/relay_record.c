/* What became of each recipient, on the disk: every combination of outcomes, and the same end
 * wherever the process dies, the power fails, or the file system does, with one notification. */
#include "outgoing.h"

#include "faults.h"

#include "relay/reason.h"
#include "relay/record.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* The first letter of a recipient says what the smarthost says to it, every time: accepted,
 * deferred, failed, again, or nothing (open). */
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

/* What failed has failed, and is not sent to. */
static void check_to_do(const struct mail *mail)
{
    struct reader reader;

    if (reader_open(&reader, &world.scratch->spool, QUEUE_RELAY, QUEUE_FAILED, mail->id) !=
        READER_OK)
        return;
    reader_close(&reader);
    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].address[0] == 'f')
            fail_msg("%s is sent to again", mail->recipients[i].address);
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
    if (mail != NULL)
        check_to_do(mail);
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

/* A try that goes on ends for nobody who failed: the others are asked first. */
static bool goes_on(const struct post *post)
{
    return strpbrk(post->letters, "go") != NULL;
}

static size_t wanted_notifications(const struct post *post)
{
    return strchr(post->letters, 'f') != NULL && !goes_on(post) &&
           (strstr(post->from, "@here.example") != NULL ||
            strstr(post->from, "@away.example") != NULL);
}

static void check_text(enum queue_directory directory, const char *id, const char *want)
{
    char name[128];
    size_t length;
    char *text;

    snprintf(name, sizeof name, "%s.reason", id);
    text = scratch_read(world.scratch, directory, name, &length);
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("got `%s`, want `%s`", text, want);
    free(text);
}

/* The one end that all ways lead to; `notifications` were taken away on the way. */
static void check_end(const struct post *post, const char *id, size_t notifications,
                      const char *where)
{
    char got[32], want[32], name[128];
    bool opens_only = goes_on(post) && strspn(post->letters, "of") == strlen(post->letters);
    enum queue_directory live = opens_only ? post->directory : QUEUE_CUR;
    size_t here = notifications_in(QUEUE_STORE) + notifications_in(QUEUE_RELAY);

    filter(post->letters, goes_on(post) ? "dgof" : "dgo", want);
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

    filter(post->letters, goes_on(post) ? "" : "f", want);
    read_letters(QUEUE_FAILED, id, id, post, got);
    if (strcmp(got, want) != 0)
        fail_msg("%s: failed: got `%s`, want `%s`", where, got, want);
    if (want[0] != '\0')
        check_text(QUEUE_FAILED, id, "<f");
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

static const char *const combinations[] = {"a",   "d",    "f",    "ad",  "af",   "df",     "adf",
                                           "fda", "agdf", "go",   "fo",  "ao",   "aaddff", "g",
                                           "ag",  "o",    "fffa", "afo", "gfdao"};
static const char *const senders[] = {"alice@here.example", "alice@away.example", "",
                                      "alice@nowhere.example"};
enum {
    COMBINATIONS = sizeof combinations / sizeof combinations[0],
    SENDERS = sizeof senders / sizeof senders[0],
    /* Of both, those that are enough to be killed at every call. */
    COMBINATIONS_KILLED = 12,
    SENDERS_KILLED = 2
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

enum { LIVED = 77 };

/* A child lives until it dies at a call. Before, if wanted, it is killed at another, and what it wrote
 * stays in the cache. Returns false when it lived to its end. */
static bool die(const char *id, long killed, long call, unsigned lost, bool *recorded)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(&world.scratch->spool, world.attic);
        faults.recorded = recorded;
        faults.leave_at = killed;
        if (killed > 0 && setjmp(faults.left) == 0)
            live(id);
        faults.leave_at = 0;
        faults.die_at = faults.calls + call;
        faults.lost = lost;
        live(id);
        _exit(LIVED);
    }
    /* One in which an assertion failed goes on with other tests, and ends as they do. */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == LIVED));
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

static void crash(const struct post *post, long killed, long call, unsigned lost, bool consume,
                  bool *recorded, bool *died)
{
    char id[ID_SIZE], where[128];
    size_t consumed = 0, accepted;

    empty_spool();
    put(post, id);
    *recorded = false;
    *died = die(id, killed, call, lost, recorded);
    if (consume)
        consumed += consume_notifications(id);
    accepted = live(id);
    snprintf(where, sizeof where, "%s of <%s> in %s/, killed at %ld, call %ld, lost %u, consume %d",
             post->letters, post->from, queue_directory_names[post->directory], killed, call, lost,
             consume);
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
    for (size_t c = 0; c < COMBINATIONS_KILLED; c++) {
        /* Whom it goes to matters to failures only. */
        size_t count = strchr(combinations[c], 'f') != NULL ? SENDERS_KILLED : 1;
        for (size_t run = 0; run < 2 * LOSSES * count; run++) {
            struct post post = {combinations[c], senders[run / 2 / LOSSES],
                                run % 2 == 0 ? QUEUE_NEW : QUEUE_CUR, NULL, 0};
            unsigned lost = losses[run / 2 % LOSSES];
            /* Of the directories new/ matters to what comes from there. */
            if (post.directory == QUEUE_CUR && run / 2 % LOSSES > 1)
                continue;
            bool died = true;
            for (long call = 1; died; call++) {
                /* What was sent, and whose rename the power then took, is sent again. */
                bool consume = call % 2 == 0 && (lost & 1 << QUEUE_NEW) == 0;
                crash(&post, 0, call, lost, consume, recorded, &died);
            }
        }
    }
    munmap(recorded, sizeof *recorded);
}

/* Killed, started again, and then the power fails: what the first had not synced is synced by the
 * second before it relies on it. */
static void what_was_not_synced_before_is_synced_after(void **state)
{
    (void)state;
    static const char *const letters[] = {"adf", "df"};
    bool *recorded =
        mmap(NULL, sizeof *recorded, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(recorded != MAP_FAILED);
    for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++) {
        for (long killed = 1; killed <= 30; killed++) {
            for (size_t loss = 2; loss < LOSSES; loss++) {
                struct post post = {letters[i], senders[killed % 2], QUEUE_NEW, NULL, 0};
                bool died = true;
                for (long call = 1; died; call += 1 + (killed + call) % 3)
                    crash(&post, killed, call, losses[loss], false, recorded, &died);
            }
        }
    }
    munmap(recorded, sizeof *recorded);
}

/* The file system fails once; the caller comes again with the same message in hand. */
static void a_step_that_fails_is_taken_again(void **state)
{
    (void)state;
    for (size_t c = 0; c < COMBINATIONS; c++) {
        for (int directory = QUEUE_NEW; directory <= QUEUE_CUR; directory++) {
            bool failed = true;
            for (long call = 1; failed; call++) {
                struct post post = {combinations[c], senders[c % 2],
                                    (enum queue_directory)directory, NULL, 0};
                char id[ID_SIZE], where[64];
                struct mail *mail;
                size_t consumed;
                empty_spool();
                put(&post, id);
                mail = load(id);
                assert_non_null(mail);
                decide(mail);
                faults_arm(&world.scratch->spool, world.attic);
                faults.fail_at = call;
                record_run(&world.recorder, mail, received + 100 * second);
                faults_disarm();
                failed = faults.calls >= call;
                snprintf(where, sizeof where, "%s, call %ld", post.letters, call);
                /* Another way is found only around a file that cannot be touched: it is written. */
                if (mail->error != (failed ? EIO : 0) &&
                    (directory == QUEUE_NEW || strpbrk(post.letters, "af") != NULL))
                    fail_msg("%s: error %d", where, mail->error);
                consumed = consume_notifications(id);
                record_run(&world.recorder, mail, received + 101 * second);
                assert_int_equal(mail->error, 0);
                record_run(&world.recorder, mail, received + 102 * second);
                assert_int_equal(mail->error, 0);
                mail_free(mail);
                check_end(&post, id, consumed, where);
            }
        }
    }
}

/* No file can be as long as this one has to be; then there is room. */
static void a_full_disk_is_waited_for(void **state)
{
    static const char *const posts[] = {"ad", "af", "df", "adf", "d", "f"};
    static char bytes[300 * 1024];
    struct rlimit before, small;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, outgoing_message, sizeof outgoing_message - 1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t i = 0; i < sizeof posts / sizeof posts[0]; i++) {
        struct post post = {posts[i], "alice@here.example", QUEUE_NEW, bytes, sizeof bytes};
        struct mail *mail;
        char id[ID_SIZE];
        empty_spool();
        put(&post, id);
        mail = load(id);
        assert_non_null(mail);
        decide(mail);
        small = before;
        small.rlim_cur = 100 * 1024;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        record_run(&world.recorder, mail, received + 100 * second);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(mail->error, EFBIG);
        assert_int_equal(each_name(directory_of(QUEUE_RELAY, QUEUE_TMP), NULL), 0);
        assert_true(scratch_exists(world.scratch, QUEUE_NEW, id));
        assert_int_equal(notifications_in(QUEUE_STORE), 0);
        record_run(&world.recorder, mail, received + 200 * second);
        assert_int_equal(mail->error, 0);
        mail_free(mail);
        check_end(&post, id, 0, post.letters);
    }
}

/* It is too old meanwhile: the failure that was begun is ended as it was, and then there is another. */
static void what_failed_besides_is_tried_again(void **state)
{
    struct post post = {"fd", "alice@here.example", QUEUE_NEW, NULL, 0}, part = post;
    bool failed = true, begun = false;

    (void)state;
    for (long call = 1; failed; call++) {
        char id[ID_SIZE], name[128], letters[32];
        struct mail *mail;
        empty_spool();
        put(&post, id);
        mail = load(id);
        decide(mail);
        faults_arm(&world.scratch->spool, world.attic);
        faults.fail_at = call;
        record_run(&world.recorder, mail, received + 100 * second);
        faults_disarm();
        failed = faults.calls >= call;
        if (mail->error == 0) {
            mail_free(mail);
            continue;
        }
        record_run(&world.recorder, mail, received + 6 * day);
        assert_int_equal(mail->error, 0);
        mail_free(mail);
        read_letters(QUEUE_FAILED, id, id, &part, letters);
        if (strcmp(letters, "fd") == 0) {
            assert_int_equal(notifications_in(QUEUE_STORE), 1);
            assert_false(scratch_exists(world.scratch, QUEUE_CUR, id));
            continue;
        }
        begun = true;
        assert_string_equal(letters, "f");
        mail = load(id);
        assert_non_null(mail);
        assert_int_equal(mail->count, 1);
        decide(mail);
        record_run(&world.recorder, mail, received + 6 * day);
        assert_int_equal(mail->error, 0);
        mail_free(mail);
        snprintf(name, sizeof name, "%s.1", id);
        read_letters(QUEUE_FAILED, name, id, &part, letters);
        assert_string_equal(letters, "d");
        assert_int_equal(notifications_in(QUEUE_STORE), 2);
        assert_false(scratch_exists(world.scratch, QUEUE_NEW, id));
        assert_false(scratch_exists(world.scratch, QUEUE_CUR, id));
    }
    assert_true(begun);
}

/* It was made for another queue, and its message had not failed yet. */
static void a_notification_of_before_is_forgotten(void **state)
{
    struct post post = {"af", "alice@here.example", QUEUE_NEW, NULL, 0};
    char id[ID_SIZE], name[128];
    bool staged = false;

    (void)state;
    for (long call = 1; !staged; call++) {
        empty_spool();
        put(&post, id);
        assert_true(die(id, 0, call, 0, NULL));
        snprintf(name, sizeof name, "%s.notification", id);
        staged = faccessat(directory_of(QUEUE_STORE, QUEUE_FAILED), name, F_OK, 0) == 0;
    }
    world.site.domains.count = 0;
    live(id);
    check_text(QUEUE_FAILED, id, "<f");
    assert_int_equal(notifications_in(QUEUE_STORE) + notifications_in(QUEUE_RELAY), 0);
    assert_true(faccessat(directory_of(QUEUE_STORE, QUEUE_FAILED), name, F_OK, 0) < 0);
    world.site.domains.count = 1;
}

static int64_t mtime_of(enum queue_directory directory, const char *name)
{
    struct stat file;

    assert_int_equal(fstatat(scratch_directory(world.scratch, directory), name, &file, 0), 0);
    assert_int_equal(file.st_mode & 07777, SPOOL_FILE_MODE);
    return (int64_t)file.st_mtim.tv_sec * second + file.st_mtim.tv_nsec / 1000;
}

/* Once by a file that is written, and again by one that is touched. */
static void the_next_try_is_the_mtime(void **state)
{
    struct post post = {"dd", "alice@here.example", QUEUE_NEW, NULL, 0};
    int64_t now = received + 1000 * second;
    char id[ID_SIZE];
    struct stat before, after;
    struct mail *mail;

    (void)state;
    put(&post, id);
    mail = load(id);
    decide(mail);
    record_run(&world.recorder, mail, now);
    assert_int_equal(mail->error, 0);
    assert_in_range(mail->due, now + 800 * second, now + 1200 * second);
    assert_true(mtime_of(QUEUE_CUR, id) == mail->due);
    mail_free(mail);
    assert_int_equal(fstatat(directory_of(QUEUE_RELAY, QUEUE_CUR), id, &before, 0), 0);

    now += 1000 * second;
    mail = load(id);
    assert_int_equal(mail->directory, QUEUE_CUR);
    decide(mail);
    record_run(&world.recorder, mail, now);
    assert_int_equal(mail->error, 0);
    assert_in_range(mail->due, now + 1600 * second, now + 2400 * second);
    assert_true(mtime_of(QUEUE_CUR, id) == mail->due);
    assert_int_equal(fstatat(directory_of(QUEUE_RELAY, QUEUE_CUR), id, &after, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    mail_free(mail);

    /* Who was not asked is asked by whoever has the mail in hand; after a crash at once, unless others
     * were put off. */
    for (int both = 0; both < 2; both++) {
        empty_spool();
        post.letters = both ? "adg" : "ag";
        put(&post, id);
        mail = load(id);
        decide(mail);
        record_run(&world.recorder, mail, now);
        assert_true(both ? mail->due >= now + 60 * second : mail->due == now);
        assert_true(mtime_of(QUEUE_CUR, id) == mail->due);
        assert_int_equal(mail->directory, QUEUE_CUR);
        mail_free(mail);
    }

    empty_spool();
    post.letters = "af";
    put(&post, id);
    mail = load(id);
    decide(mail);
    record_run(&world.recorder, mail, now);
    assert_true(mail->due == 0);
    mail_free(mail);
}

static void the_reason_stands_beside_it(void **state)
{
    struct post post = {"adg", "", QUEUE_NEW, NULL, 0};
    char id[ID_SIZE];

    (void)state;
    put(&post, id);
    live(id);
    check_text(QUEUE_CUR, id,
               "<d1@there.example>: 451 4.3.0 try later\n"
               "<g2@there.example>: 452 4.5.3 Too many recipients\n");

    empty_spool();
    post.letters = "adf";
    put(&post, id);
    live(id);
    check_text(QUEUE_CUR, id, "<d1@there.example>: 451 4.3.0 try later\n");
    check_text(QUEUE_FAILED, id,
               "<f2@there.example>: 550 5.1.1 No such user\n"
               "notification: none, the sender is null\n");

    empty_spool();
    post = (struct post){"f", "alice@nowhere.example", QUEUE_NEW, NULL, 0};
    put(&post, id);
    live(id);
    check_text(
        QUEUE_FAILED, id,
        "<f0@there.example>: 550 5.1.1 No such user\n"
        "notification: none, mail for the sender's domain is neither stored nor relayed here\n");
}

static void the_reason_is_plain_and_bounded(void **state)
{
    struct post post = {"dddddddddddddd", "", QUEUE_NEW, NULL, 0};
    static char words[REPLY_TEXT_MAX + 1];
    struct buffer text;
    struct mail *mail;
    char id[ID_SIZE];

    (void)state;
    put(&post, id);
    mail = load(id);
    mail_decide(mail, 0, OUTCOME_DEFERRED, "4.0.0", "a\tb\x7f\nc", true);
    buffer_init(&text, REASON_MAX);
    reason_add(&text, mail, 1U << OUTCOME_DEFERRED);
    assert_int_equal(text.length, strlen("<d0@there.example>: a b  c\n"));
    assert_memory_equal(text.data, "<d0@there.example>: a b  c\n", text.length);
    memset(words, 'w', sizeof words - 1);
    for (size_t i = 0; i < mail->count; i++)
        mail_decide(mail, i, OUTCOME_DEFERRED, "4.0.0", words, true);
    for (int times = 0; times < 6; times++)
        reason_add(&text, mail, 1U << OUTCOME_DEFERRED);
    assert_false(text.failed);
    assert_in_range(text.length, REASON_MAX - 2100, REASON_MAX - 500);
    assert_memory_equal(text.data + text.length - 12, "and 14 more\n", 12);
    buffer_free(&text);
    mail_free(mail);
}

static void what_is_too_old_is_given_up(void **state)
{
    struct post post = {"add", "alice@here.example", QUEUE_NEW, NULL, 0};
    char id[ID_SIZE];
    struct mail *mail;

    (void)state;
    put(&post, id);
    mail = load(id);
    decide(mail);
    record_run(&world.recorder, mail, received + 5 * day);
    assert_int_equal(mail->error, 0);
    assert_true(mail_has(mail, OUTCOME_DEFERRED));
    mail_free(mail);

    mail = load(id);
    assert_int_equal(mail->count, 2);
    decide(mail);
    free(mail->recipients[1].words);
    mail->recipients[1].words = NULL;
    record_run(&world.recorder, mail, received + 5 * day + 1);
    assert_int_equal(mail->error, 0);
    assert_true(mail->due == 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mail->recipients[i].outcome, OUTCOME_FAILED);
        assert_string_equal(mail->recipients[i].status, "4.4.7");
    }
    assert_false(mail->recipients[0].own_words);
    assert_true(mail->recipients[1].own_words);
    check_text(QUEUE_FAILED, id,
               "<d1@there.example>: given up after 5 days: 451 4.3.0 try later\n"
               "<d2@there.example>: given up after 5 days: no reply\n"
               "notification: ");
    assert_false(scratch_exists(world.scratch, QUEUE_CUR, id));
    assert_int_equal(notifications_in(QUEUE_STORE), 1);
    mail_free(mail);

    /* Nobody has failed who was not asked. */
    empty_spool();
    post.letters = "ago";
    put(&post, id);
    mail = load(id);
    decide(mail);
    record_run(&world.recorder, mail, received + 50 * day);
    assert_false(mail_has(mail, OUTCOME_FAILED));
    assert_true(scratch_exists(world.scratch, QUEUE_CUR, id));
    mail_free(mail);
}

/* One after the other, each with its own notification. */
static void a_message_can_fail_more_than_once(void **state)
{
    struct post post = {"dddd", "alice@away.example", QUEUE_NEW, NULL, 0};
    char id[ID_SIZE], name[128], letters[32];
    struct mail *mail;

    (void)state;
    put(&post, id);
    for (int times = 0; times < 4; times++) {
        mail = load(id);
        assert_int_equal(mail->count, 4 - times);
        decide(mail);
        mail_decide(mail, 0, OUTCOME_FAILED, "5.0.0", "550 No", false);
        record_run(&world.recorder, mail, received + 100 * second);
        assert_int_equal(mail->error, 0);
        mail_free(mail);
        assert_int_equal(notifications_in(QUEUE_RELAY), times + 1);
        snprintf(name, sizeof name, times == 0 ? "%s" : "%s.%d", id, times);
        read_letters(QUEUE_FAILED, name, id, &post, letters);
        assert_string_equal(letters, "d");
    }
    assert_null(load(id));
    assert_int_equal(each_name(directory_of(QUEUE_RELAY, QUEUE_FAILED), NULL), 8);
}

/* What lies in failed/ under its name and is not of it is not touched. */
static void a_stranger_in_failed_stays(void **state)
{
    struct post post = {"df", "alice@here.example", QUEUE_NEW, NULL, 0}, other = post;
    char id[ID_SIZE], name[128], letters[32];
    size_t length;
    char *text;

    (void)state;
    put(&post, id);
    scratch_write(world.scratch, QUEUE_FAILED, id, "stranger", 8);
    snprintf(name, sizeof name, "%s.1", id);
    assert_int_equal(mkdirat(directory_of(QUEUE_RELAY, QUEUE_FAILED), name, 0700), 0);
    live(id);
    text = scratch_read(world.scratch, QUEUE_FAILED, id, &length);
    assert_string_equal(text, "stranger");
    free(text);
    snprintf(name, sizeof name, "%s.2", id);
    other.letters = "f";
    read_letters(QUEUE_FAILED, name, id, &other, letters);
    assert_string_equal(letters, "f");
    assert_int_equal(notifications_in(QUEUE_STORE), 1);
    snprintf(name, sizeof name, "%s.1", id);
    assert_int_equal(faults_unlink(directory_of(QUEUE_RELAY, QUEUE_FAILED), name, AT_REMOVEDIR), 0);
}

/* tmp/ is the whole group's, and a crash may have left anything there. */
static void nothing_is_written_through_what_lies_in_tmp(void **state)
{
    struct post post = {"adf", "alice@here.example", QUEUE_NEW, NULL, 0};
    int tmp = directory_of(QUEUE_RELAY, QUEUE_TMP);
    char id[ID_SIZE], name[128];
    size_t length;
    char *text;

    (void)state;
    put(&post, id);
    scratch_write(world.scratch, QUEUE_FAILED, "victim", "precious", 8);
    snprintf(name, sizeof name, "%s.reason", id);
    assert_int_equal(symlinkat("../failed/victim", tmp, id), 0);
    assert_int_equal(symlinkat("../failed/victim", tmp, name), 0);
    live(id);
    check_end(&post, id, 0, "planted");
    text = scratch_read(world.scratch, QUEUE_FAILED, "victim", &length);
    assert_string_equal(text, "precious");
    free(text);
}

/* The list of what is stored here cannot be read: nobody is told anything wrong, and nothing is kept
 * in hand for it. The failure is put off, and comes with the next try. */
static void an_unknown_route_is_waited_for(void **state)
{
    struct post post = {"af", "alice@here.example", QUEUE_NEW, NULL, 0};
    struct mail *mail;
    char id[ID_SIZE];

    (void)state;
    put(&post, id);
    mail = load(id);
    decide(mail);
    world.site.domains_broken = true;
    record_run(&world.recorder, mail, received + second);
    assert_int_equal(mail->error, 0);
    assert_true(mail->due >= received + 61 * second);
    mail_free(mail);
    assert_false(scratch_exists(world.scratch, QUEUE_FAILED, id));
    assert_true(scratch_exists(world.scratch, QUEUE_CUR, id));
    world.site.domains_broken = false;
    mail = load(id);
    assert_int_equal(mail->count, 1);
    decide(mail);
    record_run(&world.recorder, mail, received + 2 * second);
    assert_int_equal(mail->error, 0);
    mail_free(mail);
    check_end(&post, id, 0, "unknown");
}

/* What is common is synced once, however many there are. */
static void a_run_shares_its_flushes(void **state)
{
    enum { COUNT = 50 };
    static const struct {
        const char *letters;
        long most;
    } rows[] = {{"a", 1}, {"ad", 2}, {"d", 2}, {"adf", 8}};
    struct mail *mails[COUNT];
    char ids[COUNT][ID_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct post post = {rows[i].letters, "alice@here.example", QUEUE_NEW, NULL, 0};
        size_t count = strchr(rows[i].letters, 'f') != NULL ? 5 : COUNT;
        empty_spool();
        for (size_t j = 0; j < count; j++) {
            put(&post, ids[j]);
            mails[j] = load(ids[j]);
            decide(mails[j]);
            if (j > 0)
                mails[j - 1]->next = mails[j];
        }
        faults_arm(&world.scratch->spool, world.attic);
        record_run(&world.recorder, mails[0], received + second);
        faults_disarm();
        if (faults.directory_syncs > rows[i].most)
            fail_msg("%s: %ld flushes, want %ld", rows[i].letters, faults.directory_syncs,
                     rows[i].most);
        for (size_t j = 0; j < count; j++) {
            assert_int_equal(mails[j]->error, 0);
            mail_free(mails[j]);
            if (strchr(rows[i].letters, 'f') == NULL)
                check_end(&post, ids[j], 0, post.letters);
        }
    }
}

/* One of a run fails; the others do not wait for it. */
static void one_that_fails_holds_up_no_other(void **state)
{
    struct post good = {"ad", "", QUEUE_NEW, NULL, 0}, bad = {"d", "", QUEUE_NEW, NULL, 0};
    struct mail *mails[3];
    char ids[3][ID_SIZE];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        put(i == 1 ? &bad : &good, ids[i]);
        mails[i] = load(ids[i]);
        decide(mails[i]);
    }
    mails[0]->next = mails[1];
    mails[1]->next = mails[2];
    /* Its content cannot be read any more. */
    close(mails[1]->reader.descriptor);
    mails[1]->reader.descriptor = -1;
    record_run(&world.recorder, mails[0], received + second);
    assert_int_equal(mails[0]->error, 0);
    assert_int_equal(mails[1]->error, EBADF);
    assert_int_equal(mails[2]->error, 0);
    check_end(&good, ids[0], 0, "first");
    check_end(&good, ids[2], 0, "third");
    assert_true(scratch_exists(world.scratch, QUEUE_NEW, ids[1]));
    assert_int_equal(each_name(directory_of(QUEUE_RELAY, QUEUE_TMP), NULL), 0);
    for (size_t i = 0; i < 3; i++)
        mail_free(mails[i]);
}

static void ten_thousand_recipients(void **state)
{
    enum { COUNT = 10000 };
    static char addresses[COUNT][32];
    static const char *recipients[COUNT];
    struct outgoing outgoing = outgoing_to(COUNT);
    struct mail *mail;
    char id[ID_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof addresses[i], "%c%zu@there.example", "adf"[i % 3], i);
        recipients[i] = addresses[i];
    }
    outgoing.recipients = recipients;
    outgoing_put(world.scratch, QUEUE_NEW, id, &outgoing);
    live(id);
    mail = load(id);
    assert_non_null(mail);
    assert_int_equal(mail->count, 3333);
    for (size_t i = 0; i < mail->count; i++)
        assert_string_equal(mail->recipients[i].address, addresses[3 * i + 1]);
    mail_free(mail);
    assert_int_equal(notifications_in(QUEUE_STORE), 1);
    check_text(QUEUE_FAILED, id, "<f2@there.example>: 550");
}

/* What is told, and to whom. */
static void the_notification_is_a_message_of_its_queue(void **state)
{
    static const struct {
        const char *from;
        enum queue queue;
        const char *begin;
    } rows[] = {
        {"alice@here.example", QUEUE_STORE,
         "Return-Path: <>\r\nReceived: by relay.here.example (Mayfly relay)\r\n\tid "},
        {"alice@away.example", QUEUE_RELAY,
         "Received: by relay.here.example (Mayfly relay)\r\n\tid "},
    };
    char bytes[8192], id[ID_SIZE], reason[256], own[ID_SIZE];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct post post = {"f", rows[i].from, QUEUE_NEW, NULL, 0};
        struct reader reader;
        size_t length;
        char *text;
        empty_spool();
        put(&post, id);
        live(id);
        snprintf(reason, sizeof reason, "%s.reason", id);
        text = scratch_read(world.scratch, QUEUE_FAILED, reason, &length);
        assert_non_null(strstr(text, "notification: "));
        snprintf(own, sizeof own, "%s", strstr(text, "notification: ") + 14);
        snprintf(reason, sizeof reason, "notification: %s in %s\n", own,
                 queue_names[rows[i].queue]);
        assert_non_null(strstr(text, reason));
        free(text);
        assert_int_equal(reader_open(&reader, &world.scratch->spool, rows[i].queue, QUEUE_NEW, own),
                         READER_OK);
        assert_string_equal(reader.envelope.from, "");
        assert_int_equal(reader.envelope.recipients_count, 1);
        assert_string_equal(reader.envelope.recipients[0], rows[i].from);
        assert_string_equal(reader.envelope.client_address, "127.0.0.1");
        assert_int_equal(reader.envelope.client_port, 0);
        assert_string_equal(reader.envelope.helo, "relay.here.example");
        assert_string_equal(reader.envelope.protocol, "LOCAL");
        assert_true(reader.envelope.received == received + 100 * second);
        assert_in_range(reader.envelope.size, 500, sizeof bytes - 1);
        assert_int_equal(reader_read(&reader, bytes, (size_t)reader.envelope.size), 0);
        bytes[reader.envelope.size] = '\0';
        assert_memory_equal(bytes, rows[i].begin, strlen(rows[i].begin));
        assert_non_null(strstr(bytes, "Final-Recipient: rfc822; f0@there.example\r\n"));
        assert_non_null(strstr(bytes, "Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"));
        assert_non_null(strstr(bytes, "Subject: hello\r\n"));
        assert_null(strstr(bytes, "Good morning."));
        reader_close(&reader);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_combination_has_its_end),
        TEST(wherever_it_dies_the_end_is_the_same),
        TEST(what_was_not_synced_before_is_synced_after),
        TEST(a_step_that_fails_is_taken_again),
        TEST(what_failed_besides_is_tried_again),
        TEST(a_notification_of_before_is_forgotten),
        TEST(a_full_disk_is_waited_for),
        TEST(the_next_try_is_the_mtime),
        TEST(the_reason_stands_beside_it),
        TEST(the_reason_is_plain_and_bounded),
        TEST(what_is_too_old_is_given_up),
        TEST(a_message_can_fail_more_than_once),
        TEST(a_stranger_in_failed_stays),
        TEST(nothing_is_written_through_what_lies_in_tmp),
        TEST(an_unknown_route_is_waited_for),
        TEST(a_run_shares_its_flushes),
        TEST(one_that_fails_holds_up_no_other),
        TEST(ten_thousand_recipients),
        TEST(the_notification_is_a_message_of_its_queue),
    };
    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
