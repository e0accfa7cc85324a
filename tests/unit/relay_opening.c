/* What is made of a dialogue before AUTH is done, without a network: what a server offers, what is
 * wrong with it, and in which words. */
#include "relay/opening.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* From exact copies, so that a sanitizer sees any look beyond. Lines that begin with `>` are ours. */
static bool converse(struct opening *opening, const char *const *lines)
{
    bool listening = true;

    for (; *lines != NULL && listening; lines++) {
        bool ours = **lines == '>';
        const char *text = *lines + (ours ? 2 : 0);
        size_t length = strlen(text) + 2;
        char *exact = malloc(length);
        assert_non_null(exact);
        memcpy(exact, text, length - 2);
        memcpy(exact + length - 2, "\r\n", 2);
        if (ours)
            opening_said(opening, slice_make(exact, length));
        else
            listening = opening_heard(opening, slice_make(exact, length));
        free(exact);
    }
    return listening;
}

#define TLS_BEGUN                                                                                  \
    "220 mx", "> EHLO me", "250-mx", "250 STARTTLS", "> STARTTLS", "220 go", "> EHLO me"
#define AUTH_BEGUN                                                                                 \
    TLS_BEGUN, "250-mx", "250 AUTH PLAIN", "> AUTH PLAIN", "334 ", "> AHVzZXIAc2VjcmV0"

struct dialogue {
    const char *lines[20];
    bool auth;
    CURLcode code;
    const char *error;
    enum trouble want;
    const char *words;
};

static void has_a_verdict(void **state)
{
    (void)state;
    static const struct dialogue dialogues[] = {
        /* Nothing was said. */
        {{NULL}, false, CURLE_COULDNT_RESOLVE_HOST, "no host", TROUBLE_NAME, "no host"},
        {{NULL}, false, CURLE_COULDNT_CONNECT, "refused", TROUBLE_UNREACHABLE, "refused"},
        {{NULL}, false, CURLE_OPERATION_TIMEDOUT, "late", TROUBLE_UNREACHABLE, "late"},
        {{NULL}, false, CURLE_RECV_ERROR, "reset", TROUBLE_UNREACHABLE, "reset"},
        {{NULL},
         false,
         CURLE_RECV_ERROR,
         "Too large response headers: 2 > 1",
         TROUBLE_PROTOCOL,
         "Too large response headers: 2 > 1"},
        {{NULL}, false, CURLE_OUT_OF_MEMORY, "", TROUBLE_UNREACHABLE, "Out of memory"},
        {{NULL},
         false,
         CURLE_SSL_CACERT_BADFILE,
         "bad\nfile \xff",
         TROUBLE_CERTIFICATE,
         "bad?file ?"},
        /* The reply counts, whatever libcurl makes of it. */
        {{"421 4.7.0 no"}, false, CURLE_WEIRD_SERVER_REPLY, "x", TROUBLE_THROTTLED, "421 4.7.0 no"},
        {{"421 4.7.0 no"}, false, CURLE_RECV_ERROR, "x", TROUBLE_THROTTLED, "421 4.7.0 no"},
        {{"554 no"}, false, CURLE_WEIRD_SERVER_REPLY, "x", TROUBLE_UNREACHABLE, "554 no"},
        {{"220 mx", "> EHLO me", "502 no"},
         false,
         CURLE_REMOTE_ACCESS_DENIED,
         "x",
         TROUBLE_NO_TLS,
         "502 no"},
        {{"220 mx", "> EHLO me", "550 no"},
         false,
         CURLE_REMOTE_ACCESS_DENIED,
         "x",
         TROUBLE_UNREACHABLE,
         "550 no"},
        {{"220 mx", "> EHLO me", "250 mx"},
         false,
         CURLE_USE_SSL_FAILED,
         "x",
         TROUBLE_NO_TLS,
         "the server does not offer STARTTLS"},
        {{TLS_BEGUN}, false, CURLE_PEER_FAILED_VERIFICATION, "other", TROUBLE_CERTIFICATE, "other"},
        {{TLS_BEGUN}, false, CURLE_SSL_CONNECT_ERROR, "old", TROUBLE_NO_TLS, "old"},
        {{TLS_BEGUN},
         false,
         CURLE_SSL_CONNECT_ERROR,
         "error:0A000126::unexpected eof",
         TROUBLE_UNREACHABLE,
         "error:0A000126::unexpected eof"},
        {{TLS_BEGUN, "250 mx"},
         true,
         CURLE_OK,
         "",
         TROUBLE_CREDENTIALS,
         "the server does not offer AUTH, and a user is set"},
        {{TLS_BEGUN, "250 AUTH X"},
         true,
         CURLE_LOGIN_DENIED,
         "",
         TROUBLE_CREDENTIALS,
         "the server offers AUTH, but no way that can be used"},
        {{AUTH_BEGUN, "535 5.7.8 no"},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_CREDENTIALS,
         "535 5.7.8 no"},
        {{AUTH_BEGUN, "454 4.7.0 no"},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_THROTTLED,
         "454 4.7.0 no"},
        {{AUTH_BEGUN, "334 eyJzdGF0dXMiOiI0MDAifQ=="},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_CREDENTIALS,
         "334 eyJzdGF0dXMiOiI0MDAifQ=="},
        /* No secret is ever repeated, whole or in part. */
        {{AUTH_BEGUN, "500 what is AHVzZXIAc2VjcmV0"},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_CREDENTIALS,
         "500 (and the credentials, repeated)"},
        {{AUTH_BEGUN, "500 what is zZXIAc2VjcmV..."},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_CREDENTIALS,
         "500 (and the credentials, repeated)"},
        {{AUTH_BEGUN, "535-no", "535 secret"},
         true,
         CURLE_LOGIN_DENIED,
         "x",
         TROUBLE_CREDENTIALS,
         "535 (and the credentials, repeated)"},
        /* All is well. */
        {{AUTH_BEGUN, "235 in"}, true, CURLE_OK, "", TROUBLE_NONE, ""},
        {{TLS_BEGUN, "250 mx"}, false, CURLE_OK, "", TROUBLE_NONE, ""},
    };

    for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
        const struct dialogue *dialogue = &dialogues[i];
        char words[OPENING_WORDS_SIZE];
        struct opening opening;
        enum trouble got;
        opening_init(&opening, true, dialogue->auth);
        assert_true(opening_hide(&opening, slice_of("secret")));
        assert_true(converse(&opening, dialogue->lines));
        got = opening_verdict(&opening, dialogue->code, dialogue->error, words);
        assert_string_equal(words, dialogue->words);
        assert_int_equal(got, dialogue->want);
        opening_free(&opening);
    }
}

static void takes_only_the_last_ehlo(void **state)
{
    (void)state;
    static const struct {
        const char *lines[20];
        bool pipelining, eight_bit;
    } dialogues[] = {
        {{"220 mx", "> EHLO me", "250-mx", "250-PIPELINING", "250 8BITMIME"}, true, true},
        {{"220 mx", "> EHLO me", "250-PIPELINING", "250 8BITMIME"}, false, true},
        {{"220 mx", "> EHLO me", "250-mx", "250 PIPELINING", "> STARTTLS", "220 go"}, true, false},
        {{"220 mx", "> EHLO me", "250-mx", "250 PIPELINING", "> STARTTLS", "220 go", "> EHLO me",
          "250-mx", "250 8BITMIME"},
         false,
         true},
        {{"220-mx", "220 PIPELINING", "> EHLO me", "502-no", "502 PIPELINING", "> HELO me",
          "250-mx", "250 PIPELINING"},
         false,
         false},
        {{"220 mx", "> EHLO me", "250-mx", "250 8BITMIME", "> AUTH PLAIN", "334 ", "> EHLO",
          "235-in", "235 PIPELINING"},
         false,
         true},
    };

    for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
        struct opening opening;
        opening_init(&opening, true, false);
        assert_true(converse(&opening, dialogues[i].lines));
        assert_int_equal(opening.extensions.pipelining, dialogues[i].pipelining);
        assert_int_equal(opening.extensions.eight_bit, dialogues[i].eight_bit);
        opening_free(&opening);
    }
}

/* What libcurl would pass over. */
static void listens_to_no_nonsense(void **state)
{
    (void)state;
    static const struct {
        const char *lines[8];
        const char *words;
    } dialogues[] = {
        {{"hello"}, "the greeting is none of SMTP"},
        {{"220-mx", "250 mx"}, "the greeting is none of SMTP"},
        {{"220 mx", "> EHLO me", "250-mx", "550-AUTH PLAIN"}, "the reply to EHLO is none of SMTP"},
        {{"220 mx", "> EHLO me", "250-mx", "nonsense"}, "the reply to EHLO is none of SMTP"},
        {{"220 mx", "> HELO me", "2"}, "the reply to HELO is none of SMTP"},
    };

    for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
        char words[OPENING_WORDS_SIZE];
        struct opening opening;
        opening_init(&opening, true, false);
        assert_false(converse(&opening, dialogues[i].lines));
        assert_int_equal(opening_verdict(&opening, CURLE_WRITE_ERROR, "x", words),
                         TROUBLE_PROTOCOL);
        assert_string_equal(words, dialogues[i].words);
        opening_free(&opening);
    }
}

/* All replies together have the limit, and each of them is within its own. */
static void listens_only_so_long(void **state)
{
    (void)state;
    static const char *const begun[] = {TLS_BEGUN, NULL};
    static const char *const more[] = {"250-and more and more", NULL};
    char words[OPENING_WORDS_SIZE];
    struct opening opening;
    size_t said = 0;

    opening_init(&opening, true, false);
    assert_true(converse(&opening, begun));
    said = opening.bytes;
    assert_true(said > 0);
    while (converse(&opening, more))
        said += strlen(more[0]) + 2;
    assert_true(said <= OPENING_BYTES_MAX);
    assert_true(said + strlen(more[0]) + 2 > OPENING_BYTES_MAX);
    assert_int_equal(opening_verdict(&opening, CURLE_WRITE_ERROR, "x", words), TROUBLE_PROTOCOL);
    assert_string_equal(words, "more than 65536 bytes came before AUTH was done");
    opening_free(&opening);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_a_verdict),
        cmocka_unit_test(takes_only_the_last_ehlo),
        cmocka_unit_test(listens_to_no_nonsense),
        cmocka_unit_test(listens_only_so_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
