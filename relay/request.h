/* What libcurl is asked for: a handle is told how to connect, to encrypt and to authenticate, and
 * to let all be seen that is said meanwhile. */
#ifndef RELAY_REQUEST_H
#define RELAY_REQUEST_H

#include "relay/channel.h"
#include "relay/opening.h"

#include <curl/curl.h>

/* NONE, or what is wrong already, with `words`. The opening (opening_init) and the buffer for
 * libcurl's words are the caller's, as long as the handle lives. Reads the file of a password or
 * token. */
enum trouble request_prepare(CURL *easy, const struct channel_options *options,
                             struct opening *opening, char error[static CURL_ERROR_SIZE],
                             char words[static OPENING_WORDS_SIZE]);

/* The connection is made: nothing more is to be seen. */
void request_done(CURL *easy);

#endif
