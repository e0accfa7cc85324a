/* The dialogue before a connection may be used: see the header. */
#include "relay/opening.h"

#include "common/ascii.h"

#include <stdio.h>
#include <string.h>

/* A token may be 8 KiB, comes once as it is and once as it is sent, and a user's name with it. */
enum { SECRETS_MAX = 48 * 1024, SECRET_PART = 12 };

static const char *const awaited[OPENING_STAGES] = {
    [OPENING_GREETING] = "the greeting",  [OPENING_EHLO] = "the reply to EHLO",
    [OPENING_HELO] = "the reply to HELO", [OPENING_STARTTLS] = "the reply to STARTTLS",
    [OPENING_AUTH] = "the reply to AUTH",
};

void opening_init(struct opening *opening, bool tls_wanted, bool auth_wanted)
{
    *opening = (struct opening){.tls_wanted = tls_wanted,
                                .auth_wanted = auth_wanted,
                                .first = true,
                                .result = REPLY_INCOMPLETE};
    reply_parser_init(&opening->parser);
    buffer_init(&opening->secrets, SECRETS_MAX);
}

void opening_free(struct opening *opening)
{
    if (opening->secrets.data != NULL)
        explicit_bzero(opening->secrets.data, opening->secrets.capacity);
    buffer_free(&opening->secrets);
}

const char *opening_awaits(const struct opening *opening)
{
    return awaited[opening->stage];
}

bool opening_hide(struct opening *opening, struct slice secret)
{
    struct buffer *secrets = &opening->secrets;

    /* All at once: a buffer that grows leaves its contents behind. */
    if (secrets->capacity == 0 && !buffer_reserve(secrets, SECRETS_MAX))
        return false;
    return buffer_append(secrets, secret.start, secret.length) && buffer_append(secrets, "\n", 1);
}

static bool is_verb(struct slice command, const char *verb)
{
    struct slice want = slice_of(verb);

    return slice_starts_nocase(command, want) &&
           (command.length == want.length || !ascii_is_graph(command.start[want.length]));
}

static struct slice without_line_end(struct slice line)
{
    while (line.length > 0 && strchr("\r\n", line.start[line.length - 1]) != NULL)
        line.length--;
    return line;
}

void opening_said(struct opening *opening, struct slice command)
{
    command = without_line_end(command);
    if (opening->stage == OPENING_AUTH || is_verb(command, "AUTH")) {
        /* Behind its first line come the credentials, which a server may repeat to us as an unknown
         * command. Where they are not all kept none of its words are used. */
        if (opening->stage == OPENING_AUTH)
            opening_hide(opening, command);
        opening->stage = OPENING_AUTH;
    } else if (is_verb(command, "EHLO")) {
        opening->stage = OPENING_EHLO;
        opening->extensions = (struct extensions){.pipelining = false};
    } else if (is_verb(command, "HELO")) {
        opening->stage = OPENING_HELO;
    } else if (is_verb(command, "STARTTLS")) {
        opening->stage = OPENING_STARTTLS;
    }
    opening->first = true;
    reply_parser_init(&opening->parser);
}

/* Whether EHLO is refused for now. libcurl would say HELO then, which is for servers that do not
 * know EHLO; and where it was a 421 from before, unasked for, every reply behind it would be taken
 * for that to the next command. */
static bool is_turned_away(const struct opening *opening)
{
    return opening->stage == OPENING_EHLO && opening->last.code / 100 == 4;
}

/* More than libcurl asks for: it passes over lines that are none of a reply, and takes the last of
 * different codes. */
bool opening_heard(struct opening *opening, struct slice line)
{
    struct slice rest = line;

    opening->bytes += line.length;
    if (opening->bytes > OPENING_BYTES_MAX)
        opening->result = REPLY_TOO_LONG;
    else
        opening->result = reply_parse(&opening->parser, &rest);
    if (opening->result == REPLY_MALFORMED || opening->result == REPLY_TOO_LONG)
        return false;
    if (opening->stage == OPENING_EHLO && !opening->first &&
        slice_starts_nocase(line, slice_of("250")))
        extensions_read(&opening->extensions, without_line_end(line));
    opening->first = opening->result == REPLY_COMPLETE;
    if (opening->result == REPLY_COMPLETE) {
        opening->any = true;
        opening->last = opening->parser.reply;
        opening->authenticated = opening->stage == OPENING_AUTH && opening->last.code == 235;
        return !is_turned_away(opening);
    }
    return true;
}

/* Words. */

/* Part of a secret is enough, for a server may cut what it repeats. */
static bool has_part(const char *text, struct slice secret)
{
    size_t part = secret.length < SECRET_PART ? secret.length : SECRET_PART;

    /* cppcheck-suppress knownConditionTrueFalse ; a secret may be empty */
    if (part == 0)
        return false;
    for (size_t at = 0; at + part <= secret.length; at++)
        if (memmem(text, strlen(text), secret.start + at, part) != NULL)
            return true;
    return false;
}

static bool has_secret(const struct opening *opening, const char *text)
{
    const struct buffer *secrets = &opening->secrets;

    if (secrets->failed)
        return true;
    for (size_t start = 0, end; start < secrets->length; start = end + 1) {
        for (end = start; secrets->data[end] != '\n';)
            end++;
        if (has_part(text, slice_make(secrets->data + start, end - start)))
            return true;
    }
    return false;
}

void opening_words(char words[static OPENING_WORDS_SIZE], const char *text)
{
    size_t length = strnlen(text, OPENING_WORDS_SIZE - 1);

    /* What libcurl quotes of a certificate may be anything. */
    for (size_t i = 0; i < length; i++)
        words[i] = (char)(text[i] == ' ' || ascii_is_graph(text[i]) ? text[i] : '?');
    words[length] = '\0';
}

static enum trouble say(enum trouble trouble, const char *text, char *words)
{
    opening_words(words, text);
    return trouble;
}

static enum trouble say_reply(const struct opening *opening, enum trouble trouble, char *words)
{
    if (has_secret(opening, opening->last.text))
        snprintf(words, OPENING_WORDS_SIZE, "%d (and the credentials, repeated)",
                 opening->last.code);
    else
        snprintf(words, OPENING_WORDS_SIZE, "%s", opening->last.text);
    return trouble;
}

/* Verdicts. */

/* A reply that says no. 554 instead of a greeting is good SMTP (RFC 5321, section 3.1): there is no
 * service for us now, as if nobody had answered. */
static enum trouble refused(const struct opening *opening, char *words)
{
    enum trouble trouble = TROUBLE_UNREACHABLE;

    if (opening->last.code < 500)
        trouble = TROUBLE_THROTTLED;
    else if (opening->stage == OPENING_AUTH)
        trouble = TROUBLE_CREDENTIALS;
    else if (opening->stage == OPENING_STARTTLS)
        /* NOLINTNEXTLINE(bugprone-branch-clone): the same for another reason */
        trouble = TROUBLE_NO_TLS;
    else if (opening->stage == OPENING_EHLO && opening->tls_wanted &&
             (opening->last.code == 500 || opening->last.code == 502))
        trouble = TROUBLE_NO_TLS;
    return say_reply(opening, trouble, words);
}

static enum trouble unheard(const struct opening *opening, char *words)
{
    if (opening->result == REPLY_TOO_LONG)
        snprintf(words, OPENING_WORDS_SIZE, "more than %d bytes came before AUTH was done",
                 OPENING_BYTES_MAX);
    else
        snprintf(words, OPENING_WORDS_SIZE, "%s is none of SMTP", opening_awaits(opening));
    return TROUBLE_PROTOCOL;
}

static enum trouble unauthenticated(const struct opening *opening, char *words)
{
    if (opening->stage != OPENING_AUTH)
        return say(TROUBLE_CREDENTIALS, "the server does not offer AUTH, and a user is set", words);
    return say_reply(opening, TROUBLE_PROTOCOL, words);
}

/* libcurl has one code for a handshake that was refused and one that was cut off; its words differ.
 * If they ever change, the operator is told of TLS where a connection broke. */
static bool is_cut_off(const char *error)
{
    return strstr(error, "SSL_connect: ") != NULL || strstr(error, "unexpected eof") != NULL;
}

/* A line without an end is passed over, but counted with all others: libcurl's own limit, which it
 * has since CVE-2023-38039, has a code that says nothing. */
static bool is_endless(const char *error)
{
    return strstr(error, "Too large response") != NULL;
}

static enum trouble of_login(const struct opening *opening, char *words)
{
    if (opening->stage != OPENING_AUTH)
        return say(TROUBLE_CREDENTIALS, "the server offers AUTH, but no way that can be used",
                   words);
    return say_reply(opening, TROUBLE_CREDENTIALS, words);
}

static enum trouble of_code(const struct opening *opening, CURLcode code, const char *error,
                            char *words)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_URL_MALFORMAT:
        return say(TROUBLE_NAME, error, words);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return say(TROUBLE_CERTIFICATE, error, words);
    case CURLE_SSL_CONNECT_ERROR:
        return say(is_cut_off(error) ? TROUBLE_UNREACHABLE : TROUBLE_NO_TLS, error, words);
    case CURLE_USE_SSL_FAILED:
        if (opening->stage == OPENING_EHLO)
            return say(TROUBLE_NO_TLS, "the server does not offer STARTTLS", words);
        return say_reply(opening, TROUBLE_NO_TLS, words);
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_CIPHER:
        return say(TROUBLE_NO_TLS, error, words);
    case CURLE_LOGIN_DENIED:
        return of_login(opening, words);
    case CURLE_WEIRD_SERVER_REPLY:
        if (opening->stage == OPENING_STARTTLS)
            return say(TROUBLE_PROTOCOL, "more than the reply to STARTTLS came in the clear",
                       words);
        return say_reply(opening, TROUBLE_PROTOCOL, words);
    case CURLE_RECV_ERROR:
        return say(is_endless(error) ? TROUBLE_PROTOCOL : TROUBLE_UNREACHABLE, error, words);
    case CURLE_REMOTE_ACCESS_DENIED:
    case CURLE_BAD_CONTENT_ENCODING:
        return say_reply(opening, TROUBLE_PROTOCOL, words);
    default:
        return say(TROUBLE_UNREACHABLE, error, words);
    }
}

enum trouble opening_verdict(struct opening *opening, CURLcode code, const char *error,
                             char words[static OPENING_WORDS_SIZE])
{
    words[0] = '\0';
    if (opening->result == REPLY_MALFORMED || opening->result == REPLY_TOO_LONG)
        return unheard(opening, words);
    if (code == CURLE_OK && opening->auth_wanted && !opening->authenticated)
        return unauthenticated(opening, words);
    if (code == CURLE_OK)
        return TROUBLE_NONE;
    if (error == NULL || error[0] == '\0')
        error = curl_easy_strerror(code);
    /* Whatever libcurl failed at, it is because the server said no. */
    if (opening->any && opening->last.code >= 400)
        return refused(opening, words);
    return of_code(opening, code, error, words);
}
