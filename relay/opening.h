/* What is said while a connection to the smarthost is made: libcurl speaks, and here its commands
 * and the replies to them are looked at as they pass, for what the server offers, and for what is
 * wrong when it fails. Pure. */
#ifndef RELAY_OPENING_H
#define RELAY_OPENING_H

#include "common/buffer.h"
#include "common/slice.h"
#include "relay/extensions.h"
#include "relay/reply.h"
#include "relay/trouble.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    OPENING_BYTES_MAX = 64 * 1024, /* of all replies: a server that says more is not listened to */
    OPENING_WORDS_SIZE = REPLY_TEXT_MAX + 1
};

/* The last command: what a reply is to. */
enum opening_stage {
    OPENING_GREETING,
    OPENING_EHLO,
    OPENING_HELO,
    OPENING_STARTTLS,
    OPENING_AUTH,
    OPENING_STAGES
};

struct opening {
    enum opening_stage stage;
    bool tls_wanted;
    bool auth_wanted;
    bool authenticated;           /* AUTH was said, and the reply to the last of it was 235 */
    struct extensions extensions; /* of the last reply to EHLO */
    bool any;                     /* there was a reply: */
    struct reply last;            /* the last one */
    struct reply_parser parser;
    bool first;   /* the next line is the first of a reply */
    size_t bytes; /* of all lines */
    enum reply_result result;
    struct buffer secrets; /* in lines: what no words may repeat */
};

void opening_init(struct opening *opening, bool tls_wanted, bool auth_wanted);

/* Wipes it. */
void opening_free(struct opening *opening);

/* A password or token that is going to be used. False when memory is out, or it is too long. */
bool opening_hide(struct opening *opening, struct slice secret);

/* A command that libcurl has sent, with its line end. */
void opening_said(struct opening *opening, struct slice command);

/* A line of a reply, with its line end. False: the server is not to be listened to any longer. */
bool opening_heard(struct opening *opening, struct slice line);

/* What `code`, with libcurl's words, means. NONE when the connection may be used: CURLE_OK is not
 * enough, for libcurl goes on unauthenticated where a server does not offer AUTH. `words` are
 * printable, and never a secret. */
enum trouble opening_verdict(struct opening *opening, CURLcode code, const char *error,
                             char words[static OPENING_WORDS_SIZE]);

/* Words of libcurl as they may be shown: what it quotes of a server may be anything. */
void opening_words(char words[static OPENING_WORDS_SIZE], const char *text);

/* What the server owes now: "the greeting", "the reply to EHLO". */
const char *opening_awaits(const struct opening *opening);

#endif
