/* What libcurl is asked for: see the header. */
#include "relay/request.h"

#include "relay/credentials.h"

#include <stdio.h>
#include <string.h>

static int debug_cb(CURL *easy, curl_infotype type, char *bytes, size_t length, void *data)
{
    struct opening *opening = data;

    (void)easy;
    if (type == CURLINFO_HEADER_OUT)
        opening_said(opening, slice_make(bytes, length));
    return 0;
}

static size_t header_cb(char *bytes, size_t size, size_t count, void *data)
{
    struct opening *opening = data;

    return opening_heard(opening, slice_make(bytes, size * count)) ? size * count : 0;
}

/* smtp://host:port/hostname, whatever stands in them; NULL when it cannot be. */
static char *make_url(const struct channel_options *options)
{
    CURLU *parts = curl_url();
    char *escaped = curl_easy_escape(NULL, options->hostname, 0);
    const char *scheme = options->tls == CHANNEL_IMPLICIT ? "smtps" : "smtp";
    char host[300], port[12], path[1024], *url = NULL;

    snprintf(host, sizeof host, strchr(options->host, ':') != NULL ? "[%s]" : "%s", options->host);
    snprintf(port, sizeof port, "%u", options->port);
    snprintf(path, sizeof path, "/%s", escaped != NULL ? escaped : "");
    if (parts == NULL || escaped == NULL ||
        curl_url_set(parts, CURLUPART_SCHEME, scheme, 0) != CURLUE_OK ||
        curl_url_set(parts, CURLUPART_HOST, host, 0) != CURLUE_OK ||
        curl_url_set(parts, CURLUPART_PORT, port, 0) != CURLUE_OK ||
        curl_url_set(parts, CURLUPART_PATH, path, 0) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_URL, &url, 0) != CURLUE_OK)
        url = NULL;
    curl_free(escaped);
    curl_url_cleanup(parts);
    return url;
}

static bool set_connection(CURL *easy, const struct channel_options *options, const char *url)
{
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, options->connect_seconds) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, options->connect_seconds) ==
               CURLE_OK;
}

static bool set_sight(CURL *easy, struct opening *opening, char *error)
{
    /* Commands are seen by the debug function alone, replies by that of headers. */
    return curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, debug_cb) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_DEBUGDATA, opening) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_cb) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, opening) == CURLE_OK;
}

static bool set_tls(CURL *easy, const struct channel_options *options)
{
    if (options->tls == CHANNEL_NO_TLS)
        return curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)CURLUSESSL_NONE) == CURLE_OK;
    return curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           /* Who names a file means that, and not also the system's directory. */
           (options->ca == NULL ||
            (curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK));
}

static bool set_user(CURL *easy, const struct channel_options *options, struct opening *opening,
                     const char *secret)
{
    bool token = options->token_file != NULL;

    return opening_hide(opening, slice_of(secret)) &&
           curl_easy_setopt(easy, CURLOPT_USERNAME, options->user) == CURLE_OK &&
           curl_easy_setopt(easy, token ? CURLOPT_XOAUTH2_BEARER : CURLOPT_PASSWORD, secret) ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_LOGIN_OPTIONS,
                            token ? "AUTH=XOAUTH2" : "AUTH=PLAIN;AUTH=LOGIN") == CURLE_OK;
}

static enum trouble set_credentials(CURL *easy, const struct channel_options *options,
                                    struct opening *opening, char *words)
{
    bool token = options->token_file != NULL;
    const char *path = token ? options->token_file : options->password_file;
    char secret[CREDENTIALS_SIZE], reason[CREDENTIALS_REASON_SIZE];
    bool set;

    if (!token && options->password != NULL)
        return set_user(easy, options, opening, options->password) ? TROUBLE_NONE
                                                                   : TROUBLE_UNREACHABLE;
    if (path == NULL) {
        snprintf(words, OPENING_WORDS_SIZE, "there is a user, and neither a password nor a token");
        return TROUBLE_CREDENTIALS;
    }
    if (!credentials_read(path, secret, reason)) {
        snprintf(words, OPENING_WORDS_SIZE, "no %s in %s: %s", token ? "token" : "password", path,
                 reason);
        opening_words(words, words);
        return TROUBLE_CREDENTIALS;
    }
    set = set_user(easy, options, opening, secret);
    explicit_bzero(secret, sizeof secret);
    return set ? TROUBLE_NONE : TROUBLE_UNREACHABLE;
}

enum trouble request_prepare(CURL *easy, const struct channel_options *options,
                             struct opening *opening, char error[static CURL_ERROR_SIZE],
                             char words[static OPENING_WORDS_SIZE])
{
    char *url = make_url(options);
    bool set;

    if (url == NULL) {
        snprintf(words, OPENING_WORDS_SIZE, "%s is not the name of a host", options->host);
        return TROUBLE_NAME;
    }
    snprintf(words, OPENING_WORDS_SIZE, "libcurl cannot be set up");
    set = set_connection(easy, options, url) && set_sight(easy, opening, error) &&
          set_tls(easy, options);
    curl_free(url);
    if (!set)
        return TROUBLE_UNREACHABLE;
    return opening->auth_wanted ? set_credentials(easy, options, opening, words) : TROUBLE_NONE;
}

void request_done(CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_VERBOSE, 0L);
}
