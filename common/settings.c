/* The settings table at work: see the header. */
#include "common/settings.h"

#include "common/buffer.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sysexits.h>

extern char **environ;

enum { SETTINGS_FILE_MAX = 16 * 1024 * 1024, NAMES_COLUMN = 39 };

const char *const settings_log_levels[] = {"error", "warn", "info", "debug", NULL};

static const char masked[] = "********";

/* Reads a whole file into `out`, terminated. Returns 0 or an errno value. */
static int read_file(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno;
    char chunk[4096];
    size_t n;
    errno = 0;
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_append(out, chunk, n);
    int error = ferror(file) ? (errno ? errno : EIO) : 0;
    fclose(file);
    buffer_append(out, "", 1);
    return error != 0 ? error : out->failed ? EFBIG : 0;
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t' || *text == '\r')
        text++;
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r", text[length - 1]) != NULL)
        text[--length] = '\0';
    return text;
}

/* One line of .env: NAME=value, with optional `export` before it and quotes around the value. The
 * environment wins. */
static void take_line(char *line)
{
    line = trim(line);
    if (strncmp(line, "export ", 7) == 0)
        line = trim(line + 7);
    char *equals = strchr(line, '=');
    if (*line == '#' || equals == NULL)
        return;
    *equals = '\0';
    char *value = trim(equals + 1);
    size_t length = strlen(value);
    if (length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value) {
        value[length - 1] = '\0';
        value++;
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is no second thread yet */
    setenv(trim(line), value, 0);
}

static int load_dotenv(void)
{
    struct buffer text;
    buffer_init(&text, SETTINGS_FILE_MAX);
    int error = read_file(".env", &text);
    if (error == 0) {
        char *rest = text.data;
        for (char *line; (line = strsep(&rest, "\n")) != NULL;)
            take_line(line);
    }
    buffer_free(&text);
    return error == ENOENT ? 0 : error;
}

static void list_clear(struct setting_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    list->items = NULL;
    list->count = 0;
}

static bool list_add(struct setting_list *list, size_t *capacity, const char *item)
{
    if (list->count == *capacity) {
        size_t wanted = *capacity ? *capacity * 2 : 8;
        char **items = reallocarray(list->items, wanted, sizeof *items);
        if (items == NULL)
            return false;
        list->items = items;
        *capacity = wanted;
    }
    list->items[list->count] = strdup(item);
    return list->items[list->count] != NULL && ++list->count > 0;
}

/* Cuts off a comment: a `#` at the start of the line or behind white space. Any other may be part of
 * an address. */
static void cut_comment(char *line)
{
    for (char *at = line; (at = strchr(at, '#')) != NULL; at++) {
        if (at == line || at[-1] == ' ' || at[-1] == '\t') {
            *at = '\0';
            return;
        }
    }
}

/* Adds the entries of `text`, which is cut up. */
static bool list_split(struct setting_list *list, char *text, bool comments)
{
    size_t capacity = list->count;
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        if (comments)
            cut_comment(line);
        for (char *item; (item = strsep(&line, ",")) != NULL;) {
            item = trim(item);
            if (*item != '\0' && !list_add(list, &capacity, item))
                return false;
        }
    }
    return true;
}

/* It gives its bytes once: the next reread would wait for more for ever, or find an empty list. */
static bool is_pipe(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
}

/* As a power cut leaves it in a file: what stands behind would be forgotten. */
static bool has_nul(const struct buffer *text)
{
    return strlen(text->data) < text->length - 1;
}

/* Behind the byte order mark that some editors write: it would be part of the first entry. */
static char *skip_mark(char *text)
{
    return strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
}

/* Fills an empty list from the file at its path. Returns 0, or an errno value with the list empty. */
static int list_read(struct setting_list *list)
{
    struct buffer text;
    buffer_init(&text, SETTINGS_FILE_MAX);
    int error = is_pipe(list->path) ? ENOTSUP : read_file(list->path, &text);
    if (error == 0 && has_nul(&text))
        error = EILSEQ;
    if (error == 0 && !list_split(list, skip_mark(text.data), true))
        error = ENOMEM;
    buffer_free(&text);
    if (error != 0)
        list_clear(list);
    return error;
}

static const char *first_invalid(const struct setting_list *list, bool (*valid)(const char *item))
{
    for (size_t i = 0; valid != NULL && i < list->count; i++) {
        if (!valid(list->items[i]))
            return list->items[i];
    }
    return NULL;
}

bool settings_list_reread(struct setting_list *list, const char *name,
                          bool (*valid)(const char *item))
{
    if (list->path == NULL)
        return true;
    struct setting_list fresh = {.path = list->path};
    int error = list_read(&fresh);
    const char *entry = first_invalid(&fresh, valid);
    if (error != 0)
        log_error("list_unreadable", LOG_TEXT("setting", name), LOG_TEXT("path", list->path),
                  LOG_ERRNO(error));
    else if (entry != NULL)
        log_error("list_invalid", LOG_TEXT("setting", name), LOG_TEXT("path", list->path),
                  LOG_TEXT("entry", entry));
    list->broken = error != 0 || entry != NULL;
    if (!list->broken) {
        list_clear(list);
        *list = fresh;
        return true;
    }
    list_clear(&fresh);
    return false;
}

static bool is_text(const struct setting *setting)
{
    return setting->type == SETTING_TEXT || setting->type == SETTING_SECRET ||
           setting->type == SETTING_CONNINFO;
}

/* The value in force, as text; NULL: unset and without default. */
static const char *value_of(const struct setting *setting)
{
    const char *value = getenv(setting->name);
    bool unset = value == NULL || (*value == '\0' && is_text(setting));
    return unset ? setting->fallback : value;
}

static bool is_masked(const struct setting *setting)
{
    return setting->type == SETTING_SECRET;
}

/* A connection string that cannot be read cannot be searched for its password either. */
static int refuse(const struct setting *setting, const char *value, const char *expected)
{
    bool secret = is_masked(setting) || setting->type == SETTING_CONNINFO;
    log_error("bad_setting", LOG_TEXT("setting", setting->name),
              LOG_TEXT("value", secret ? masked : value), LOG_TEXT("expected", expected));
    return EX_CONFIG;
}

int settings_refuse(const struct setting *table, size_t count, const char *name,
                    const char *expected)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0)
            return refuse(&table[i], value_of(&table[i]), expected);
    }
    return EX_CONFIG;
}

static int load_number(const struct setting *setting, const char *value, long *number)
{
    char *end;
    errno = 0;
    *number = strtol(value, &end, 10);
    bool plain = *value == '-' || (*value >= '0' && *value <= '9');
    if (plain && errno == 0 && *end == '\0' && *number >= setting->minimum &&
        *number <= setting->maximum)
        return EX_OK;
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %ld to %ld", setting->minimum,
             setting->maximum);
    return refuse(setting, value, expected);
}

static int load_choice(const struct setting *setting, const char *value, int *choice)
{
    struct buffer expected;
    buffer_init(&expected, 400);
    for (int i = 0; setting->choices[i] != NULL; i++) {
        if (strcmp(setting->choices[i], value) == 0) {
            *choice = i;
            buffer_free(&expected);
            return EX_OK;
        }
        buffer_printf(&expected, "%s%s", i > 0 ? ", " : "", setting->choices[i]);
    }
    buffer_append(&expected, "", 1);
    int code = refuse(setting, value, expected.data);
    buffer_free(&expected);
    return code;
}

static int load_list(const struct setting *setting, const char *value, struct setting_list *list)
{
    *list = (struct setting_list){0};
    if (value[0] == '@') {
        list->path = strdup(value + 1);
        int error = list->path ? list_read(list) : ENOMEM;
        if (error != 0) {
            char expected[160];
            snprintf(expected, sizeof expected, "a list, or @ and the path of a readable file (%s)",
                     log_errno_text(error));
            return refuse(setting, value, expected);
        }
        return EX_OK;
    }
    char *copy = strdup(value);
    bool done = copy != NULL && list_split(list, copy, false);
    free(copy);
    return done ? EX_OK : EX_OSERR;
}

static int load_setting(const struct setting *setting, const char *value, void *field)
{
    switch (setting->type) {
    case SETTING_TEXT:
    case SETTING_SECRET:
    case SETTING_CONNINFO:
        *(const char **)field = value != NULL ? strdup(value) : NULL;
        return EX_OK;
    case SETTING_NUMBER:
        *(long *)field = -1;
        return value == NULL ? EX_OK : load_number(setting, value, field);
    case SETTING_FLAG:
        *(bool *)field = value != NULL && strcmp(value, "1") == 0;
        if (value == NULL || strcmp(value, "0") == 0 || strcmp(value, "1") == 0)
            return EX_OK;
        return refuse(setting, value, "0 or 1");
    case SETTING_CHOICE:
        *(int *)field = -1;
        return value == NULL ? EX_OK : load_choice(setting, value, field);
    case SETTING_LIST:
        return load_list(setting, value != NULL ? value : "", field);
    }
    return EX_SOFTWARE;
}

static bool is_known(const struct setting *table, size_t count, const char *variable, size_t length)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(table[i].name) == length && strncmp(table[i].name, variable, length) == 0)
            return true;
    }
    return false;
}

static void warn_of_unknown(const struct setting *table, size_t count, const char *prefix)
{
    for (char **variable = environ; *variable != NULL; variable++) {
        size_t length = strcspn(*variable, "=");
        if (strncmp(*variable, prefix, strlen(prefix)) == 0 &&
            !is_known(table, count, *variable, length))
            log_warn("unknown_setting", LOG_BYTES("setting", *variable, length));
    }
}

int settings_load(const struct setting *table, size_t count, const char *prefix, void *config)
{
    int error = load_dotenv();
    if (error != 0) {
        log_error("unreadable_settings", LOG_TEXT("path", ".env"), LOG_ERRNO(error));
        return EX_CONFIG;
    }
    if (prefix != NULL)
        warn_of_unknown(table, count, prefix);
    int code = EX_OK;
    for (size_t i = 0; i < count; i++) {
        int result = load_setting(&table[i], value_of(&table[i]), (char *)config + table[i].offset);
        if (result != EX_OK)
            code = result;
    }
    return code;
}

/* Returns how wide it is. */
static int print_name(const struct setting *setting, FILE *out)
{
    const char *fallback = setting->fallback ? setting->fallback : "unset";
    return fprintf(out, "  %s [%s]", setting->name, *fallback ? fallback : "empty");
}

void settings_print_names(const struct setting *table, size_t count, FILE *out)
{
    size_t rows = (count + 1) / 2;
    for (size_t row = 0; row < rows; row++) {
        int width = print_name(&table[row], out);
        if (row + rows < count) {
            fprintf(out, "%*s", width < NAMES_COLUMN ? NAMES_COLUMN - width : 1, "");
            print_name(&table[row + rows], out);
        }
        fputc('\n', out);
    }
}

void settings_print_table(const struct setting *table, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        print_name(&table[i], out);
        fprintf(out, "\n      %s\n", table[i].meaning);
    }
}

/* Prints a connection string but for its password, which is what stands between `://user:` and the
 * last `@` before the path, or behind `password=`, in quotes or not. */
static void print_conninfo(const char *value, FILE *out)
{
    const char *scheme = strstr(value, "://");
    if (scheme != NULL) {
        const char *authority = scheme + 3;
        size_t length = strcspn(authority, "/?");
        const char *at = memrchr(authority, '@', length);
        const char *colon = at ? memchr(authority, ':', (size_t)(at - authority)) : NULL;
        if (colon != NULL) {
            fprintf(out, "%.*s:%s", (int)(colon - value), value, masked);
            value = at;
        }
    }
    const char *password;
    while ((password = strcasestr(value, "password")) != NULL) {
        const char *secret = password + strlen("password");
        secret += strspn(secret, " ");
        if (*secret != '=') {
            fprintf(out, "%.*s", (int)(secret - value), value);
            value = secret;
            continue;
        }
        secret++;
        secret += strspn(secret, " ");
        fprintf(out, "%.*s%s", (int)(secret - value), value, masked);
        bool quoted = *secret == '\'';
        for (secret += quoted; *secret != '\0'; secret++) {
            if (*secret == '\\' && secret[1] != '\0')
                secret++;
            else if (quoted ? *secret == '\'' : strchr(" &", *secret) != NULL)
                break;
        }
        value = secret + (quoted && *secret == '\'');
    }
    fputs(value, out);
}

void settings_print_values(const struct setting *table, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = value_of(&table[i]);
        if (value == NULL) {
            fprintf(out, "# %s is unset\n", table[i].name);
            continue;
        }
        fprintf(out, "%s=", table[i].name);
        if (is_masked(&table[i]))
            fputs(*value ? masked : "", out);
        else if (table[i].type == SETTING_CONNINFO)
            print_conninfo(value, out);
        else
            fputs(value, out);
        fputc('\n', out);
    }
}
