/* The life of a program: see the header. */
#include "common/program.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static struct {
    const struct program *program;
    uv_loop_t loop;
    uv_signal_t signals[3];
    uv_timer_t deadline;
    bool stopping;
    bool ready;
    int exit_code;
} self;

bool program_stopping(void)
{
    return self.stopping;
}

static void deadline_cb(uv_timer_t *timer)
{
    (void)timer;
    log_warn("stopped_late", LOG_NUMBER("seconds", PROGRAM_STOP_SECONDS));
    metrics_write();
    _exit(self.exit_code);
}

static void program_stop(int exit_code)
{
    self.stopping = true;
    self.exit_code = exit_code;
    uv_timer_start(&self.deadline, deadline_cb, (uint64_t)PROGRAM_STOP_SECONDS * 1000, 0);
    self.program->stop();
    metrics_stop();
}

void program_fail(int exit_code)
{
    if (!self.stopping)
        program_stop(exit_code);
}

static void signal_cb(uv_signal_t *handle, int number)
{
    (void)handle;
    if (number == SIGHUP) {
        if (self.program->reload != NULL && !self.stopping)
            self.program->reload();
        return;
    }
    if (self.stopping) {
        log_warn("stopped_at_once");
        _exit(self.exit_code);
    }
    log_info("stopping", LOG_TEXT("signal", number == SIGINT ? "INT" : "TERM"));
    program_stop(EX_OK);
}

void program_ready(void)
{
    if (self.ready)
        return;
    self.ready = true;
    log_info("ready");
    const struct settings_common *common = self.program->config;
    if (common->ready_fd < 0)
        return;
    if (write((int)common->ready_fd, "\n", 1) < 0)
        log_warn("ready_unheard", LOG_NUMBER("fd", common->ready_fd), LOG_ERRNO(errno));
    close((int)common->ready_fd);
}

static void print_usage(const struct program *program, FILE *out)
{
    fprintf(out, "usage: %s [--help | --version | --check | --settings]\n", program->name);
}

static void print_help(const struct program *program)
{
    print_usage(program, stdout);
    printf("%s\n\n"
           "Settings come from the environment, then from .env in the working directory;\n"
           "--check prints and validates them, --settings says what they mean. Defaults:\n\n",
           program->summary);
    settings_print_names(program->settings, program->settings_count, stdout);
}

/* What is asked for by an option and takes no settings. Returns false if it is another option. */
static bool print_about(const struct program *program, const char *option)
{
    if (strcmp(option, "--help") == 0)
        print_help(program);
    else if (strcmp(option, "--settings") == 0)
        settings_print_table(program->settings, program->settings_count, stdout);
    else if (strcmp(option, "--version") == 0)
        printf("mayfly-%s %s\n", program->name, MAYFLY_VERSION);
    else
        return false;
    return true;
}

/* A descriptor below 3 that was closed by whoever started us would be given to the next file we
 * open, and log lines would end up in a message. */
static void keep_standard_descriptors(void)
{
    for (int descriptor = 0; descriptor < 3; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
            open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY);
    }
}

static int load_settings(const struct program *program)
{
    int code =
        settings_load(program->settings, program->settings_count, program->prefix, program->config);
    if (code != EX_OK)
        return code;
    const struct settings_common *common = program->config;
    log_set_level((enum log_level)common->log_level);
    if (common->ready_fd >= 0) {
        int flags = fcntl((int)common->ready_fd, F_GETFD);
        if (flags < 0)
            return settings_refuse(program->settings, program->settings_count, "READY_FD",
                                   "an open descriptor");
        fcntl((int)common->ready_fd, F_SETFD, flags | FD_CLOEXEC);
    }
    if (common->metrics_service != NULL && !metrics_label_valid(common->metrics_service))
        return settings_refuse(program->settings, program->settings_count, "METRICS_SERVICE",
                               "printable ASCII without quotes and backslashes");
    return program->check != NULL ? program->check(program->config) : EX_OK;
}

/* SIGHUP before it is caught would end a program that is only starting: it waits until then. */
static void hold_reload(bool hold)
{
    sigset_t reload;

    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is no second thread yet */
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &reload, NULL);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uv_signal_init(&self.loop, &self.signals[i]);
        uv_signal_start(&self.signals[i], signal_cb, numbers[i]);
        uv_unref((uv_handle_t *)&self.signals[i]);
    }
    uv_timer_init(&self.loop, &self.deadline);
    uv_unref((uv_handle_t *)&self.deadline);
    hold_reload(false);
}

static void release_loop(void)
{
    for (size_t i = 0; i < sizeof self.signals / sizeof *self.signals; i++)
        uv_close((uv_handle_t *)&self.signals[i], NULL);
    uv_close((uv_handle_t *)&self.deadline, NULL);
    uv_run(&self.loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&self.loop) != 0)
        log_error("handles_left");
}

/* What a loop takes of descriptors at once: 6 in libuv 1.44. tests/system/test_descriptors.py tries
 * every limit that leaves fewer behind the three that a program has. */
enum { LOOP_DESCRIPTORS = 8 };

/* Where libuv gets none for its first pipe it aborts, without a word. */
static int check_descriptors(void)
{
    int copies[LOOP_DESCRIPTORS];
    size_t count = 0;
    while (count < LOOP_DESCRIPTORS && (copies[count] = dup(STDERR_FILENO)) >= 0)
        count++;
    int error = count < LOOP_DESCRIPTORS ? errno : 0;
    while (count > 0)
        close(copies[--count]);
    return error;
}

static int make_loop(void)
{
    int error = check_descriptors();
    if (error == 0)
        error = -uv_loop_init(&self.loop);
    if (error == 0)
        return EX_OK;
    log_error("no_loop", LOG_ERRNO(error));
    return EX_OSERR;
}

static int program_run(const struct program *program)
{
    int code = program->prepare != NULL ? program->prepare(program->config) : EX_OK;
    if (code == EX_OK)
        code = make_loop();
    if (code != EX_OK)
        return code;
    catch_signals();
    const struct settings_common *common = program->config;
    metrics_start(&self.loop, common->metrics_file, program->name, common->metrics_service,
                  program->metrics);

    code = program->start(&self.loop, program->config);
    if (code != EX_OK)
        return code;
    uv_run(&self.loop, UV_RUN_DEFAULT);
    metrics_write();
    release_loop();
    log_info("stopped");
    return self.exit_code;
}

int program_main(const struct program *program, int argc, char **argv)
{
    self.program = program;
    signal(SIGPIPE, SIG_IGN);
    hold_reload(true);
    keep_standard_descriptors();
    /* So that the modes which files are made with in the code are the modes that they have. */
    umask(0022);

    if (argc == 2 && print_about(program, argv[1]))
        return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
    bool check = argc == 2 && strcmp(argv[1], "--check") == 0;
    if (argc > 1 && !check) {
        print_usage(program, stderr);
        return EX_USAGE;
    }

    int code = load_settings(program);
    if (code != EX_OK)
        return code;
    if (check) {
        settings_print_values(program->settings, program->settings_count, stdout);
        return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
    }
    return program_run(program);
}
