/* Paths: what RFC 5321 and RFC 6531 allow, what they do not, and not one octet changed. */
#include "queue/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define L16    "abcdefghijklmnop"
#define L64    L16 L16 L16 L16
#define L63    L16 L16 L16 "abcdefghijklmno"
#define D255   L63 "." L63 "." L63 "." L63
#define UMLAUT "\xc3\xbc"

struct row {
    const char *input;
    const char *mailbox; /* NULL: refused */
    const char *local;
    const char *rest;
};

static const struct row both[] = {
    {"<a@c.example>", "a@c.example", "a", ""},
    {"<a@c.example> SIZE=1", "a@c.example", "a", " SIZE=1"},
    {"<a@c.example>x", "a@c.example", "a", "x"},
    {"<o'neil@c.example>", "o'neil@c.example", "o'neil", ""},
    {"<a+b=c@c.example>", "a+b=c@c.example", "a+b=c", ""},
    {"<!#$%&'*+-/=?^_`{|}~@c.example>", "!#$%&'*+-/=?^_`{|}~@c.example", "!#$%&'*+-/=?^_`{|}~", ""},
    {"<a.b.c@c.example>", "a.b.c@c.example", "a.b.c", ""},
    {"<BoB@T.Example>", "BoB@T.Example", "BoB", ""},
    {"<a@localhost>", "a@localhost", "a", ""},
    {"<a@my_host.example>", "a@my_host.example", "a", ""},
    {"<a@1.2.3>", "a@1.2.3", "a", ""},
    {"<\"a b\\\"c\"@c.example>", "\"a b\\\"c\"@c.example", "\"a b\\\"c\"", ""},
    {"<\"\"@c.example>", "\"\"@c.example", "\"\"", ""},
    {"<\"x'/**/;--\"@a.example>", "\"x'/**/;--\"@a.example", "\"x'/**/;--\"", ""},
    {"<\"a@b>\"@c.example>", "\"a@b>\"@c.example", "\"a@b>\"", ""},
    {"<@x.example,@y.example:a@c.example>", "a@c.example", "a", ""},
    {"<@[192.0.2.1]:a@c.example>", "a@c.example", "a", ""},
    {"<b@[192.0.2.1]>", "b@[192.0.2.1]", "b", ""},
    {"<b@[IPv6:2001:db8::1]>", "b@[IPv6:2001:db8::1]", "b", ""},
    {"<b@[ipv6:::ffff:192.0.2.1]>", "b@[ipv6:::ffff:192.0.2.1]", "b", ""},
    {"<" L64 "@c.example>", L64 "@c.example", L64, ""},
    {"<" L64 L64 L64 L64 "@c.example>", L64 L64 L64 L64 "@c.example", L64 L64 L64 L64, ""},
    {"<a@" D255 ">", "a@" D255, "a", ""},
    {"<" UMLAUT "@c.example>", UMLAUT "@c.example", UMLAUT, ""},
    {"<a@" UMLAUT ".example>", "a@" UMLAUT ".example", "a", ""},
    {"<\"" UMLAUT " \"@c.example>", "\"" UMLAUT " \"@c.example", "\"" UMLAUT " \"", ""},
    {"<\xf0\x9f\x98\x80@c.example>", "\xf0\x9f\x98\x80@c.example", "\xf0\x9f\x98\x80", ""},

    {"", NULL, NULL, NULL},
    {"<", NULL, NULL, NULL},
    {"<a", NULL, NULL, NULL},
    {"<a@", NULL, NULL, NULL},
    {"<a@c.example", NULL, NULL, NULL},
    {"a@c.example", NULL, NULL, NULL},
    {" <a@c.example>", NULL, NULL, NULL},
    {"< a@c.example>", NULL, NULL, NULL},
    {"<a@c.example >", NULL, NULL, NULL},
    {"<@c.example>", NULL, NULL, NULL},
    {"<a>", NULL, NULL, NULL},
    {"<;id;>", NULL, NULL, NULL},
    {"<;id;@c.example>", NULL, NULL, NULL},
    {"<a b@c.example>", NULL, NULL, NULL},
    {"<.a@c.example>", NULL, NULL, NULL},
    {"<a.@c.example>", NULL, NULL, NULL},
    {"<a..b@c.example>", NULL, NULL, NULL},
    {"<a\x01@c.example>", NULL, NULL, NULL},
    {"<a\x7f@c.example>", NULL, NULL, NULL},
    {"<\"a@c.example>", NULL, NULL, NULL},
    {"<\"a\"b@c.example>", NULL, NULL, NULL},
    {"<\"a\x01\"@c.example>", NULL, NULL, NULL},
    {"<\"a\\\x01\"@c.example>", NULL, NULL, NULL},
    {"<\"a\\", NULL, NULL, NULL},
    {"<a@@c.example>", NULL, NULL, NULL},
    {"<a@b@c.example>", NULL, NULL, NULL},
    {"<a@.example>", NULL, NULL, NULL},
    {"<a@c.example.>", NULL, NULL, NULL},
    {"<a@c..example>", NULL, NULL, NULL},
    {"<a@-c.example>", NULL, NULL, NULL},
    {"<a@c-.example>", NULL, NULL, NULL},
    {"<a@c*.example>", NULL, NULL, NULL},
    {"<a@" L64 ".example>", NULL, NULL, NULL},
    {"<a@x" D255 ">", NULL, NULL, NULL},
    {"<" L64 L64 L64 L64 "x@c.example>", NULL, NULL, NULL},
    {"<b@[300.1.1.1]>", NULL, NULL, NULL},
    {"<b@[1.2.3]>", NULL, NULL, NULL},
    {"<b@[1.2.3.4>", NULL, NULL, NULL},
    {"<b@1.2.3.4]>", NULL, NULL, NULL},
    {"<b@[]>", NULL, NULL, NULL},
    {"<b@[IPv6:]>", NULL, NULL, NULL},
    {"<b@[IPv6:1.2.3.4]>", NULL, NULL, NULL},
    {"<b@[IPv6:2001:db8::1::2]>", NULL, NULL, NULL},
    {"<b@[2001:db8::1]>", NULL, NULL, NULL},
    {"<b@[IPv6:fe80::1%eth0]>", NULL, NULL, NULL},
    {"<b@[x-tag:foo]>", NULL, NULL, NULL},
    {"<@x.example:>", NULL, NULL, NULL},
    {"<@x.example a@c.example>", NULL, NULL, NULL},
    {"<@x.example,a@c.example>", NULL, NULL, NULL},
    {"<@x.example,:a@c.example>", NULL, NULL, NULL},
    {"<\xff@c.example>", NULL, NULL, NULL},
    {"<\xc3@c.example>", NULL, NULL, NULL},
    {"<\xc0\xaf@c.example>", NULL, NULL, NULL},
    {"<\xed\xa0\x80@c.example>", NULL, NULL, NULL},
    {"<\xf4\x90\x80\x80@c.example>", NULL, NULL, NULL},
    {"<\"\xff\"@c.example>", NULL, NULL, NULL},
    {"<a@\xff.example>", NULL, NULL, NULL},
};

static const struct row reverse_only[] = {
    {"<>", "", "", ""},
    {"<> SIZE=1", "", "", " SIZE=1"},
    {"<postmaster>", NULL, NULL, NULL},
};

static const struct row forward_only[] = {
    {"<>", NULL, NULL, NULL},
    {"<Postmaster>", "Postmaster", "Postmaster", ""},
    {"<pOSTMASTER> X", "pOSTMASTER", "pOSTMASTER", " X"},
    {"<postmasters>", NULL, NULL, NULL},
    {"<b>", NULL, NULL, NULL},
};

typedef bool parse(struct slice input, struct path *path, struct slice *rest);

static void check(parse *parse_path, const struct row *row)
{
    /* An exact copy, so that a sanitizer sees any look beyond what was given. */
    size_t length = strlen(row->input);
    char *exact = malloc(length > 0 ? length : 1);
    struct path path;
    struct slice rest = {0};
    bool got;

    assert_non_null(exact);
    memcpy(exact, row->input, length);
    got = parse_path(slice_make(exact, length), &path, &rest);
    if (got != (row->mailbox != NULL))
        print_message("%s\n", row->input);
    assert_int_equal(got, row->mailbox != NULL);
    if (got) {
        assert_true(slice_equals(path.mailbox, slice_of(row->mailbox)));
        assert_true(slice_equals(path.local, slice_of(row->local)));
        assert_true(slice_equals(rest, slice_of(row->rest)));
        if (path.domain.length > 0)
            assert_int_equal(path.mailbox.length, path.local.length + 1 + path.domain.length);
    }
    free(exact);
}

static void reads_reverse_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++)
        check(path_parse_reverse, &both[i]);
    for (size_t i = 0; i < sizeof reverse_only / sizeof reverse_only[0]; i++)
        check(path_parse_reverse, &reverse_only[i]);
}

static void reads_forward_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++)
        check(path_parse_forward, &both[i]);
    for (size_t i = 0; i < sizeof forward_only / sizeof forward_only[0]; i++)
        check(path_parse_forward, &forward_only[i]);
}

/* A path that is cut anywhere is refused, and nothing behind the cut is looked at. */
static void refuses_every_beginning_of_a_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++) {
        const char *input = both[i].input;
        size_t whole = both[i].mailbox != NULL ? strlen(input) - strlen(both[i].rest) : 0;
        for (size_t length = 0; length < whole; length++) {
            char *exact = malloc(length > 0 ? length : 1);
            struct path path;
            struct slice rest;
            assert_non_null(exact);
            memcpy(exact, input, length);
            assert_false(path_parse_forward(slice_make(exact, length), &path, &rest));
            free(exact);
        }
    }
}

static void tells_what_needs_smtputf8(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        bool want;
    } rows[] = {
        {"<a@c.example>", false},
        {"<" UMLAUT "@c.example>", true},
        {"<a@" UMLAUT ".example>", true},
        {"<@" UMLAUT ".example:a@c.example>", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct path path;
        struct slice rest;
        assert_true(path_parse_reverse(slice_of(rows[i].input), &path, &rest));
        assert_int_equal(path.non_ascii, rows[i].want);
    }
}

static void knows_domains_and_literals(void **state)
{
    (void)state;
    assert_true(path_is_domain(slice_of("c.example")));
    assert_true(path_is_domain(slice_of("my_host")));
    assert_false(path_is_domain(slice_of("")));
    assert_false(path_is_domain(slice_of("c.example ")));
    assert_false(path_is_domain(slice_of("[192.0.2.1]")));
    assert_true(path_is_literal(slice_of("[192.0.2.1]")));
    assert_true(path_is_literal(slice_of("[IPv6:::1]")));
    assert_false(path_is_literal(slice_of("[192.0.2.1]x")));
    assert_false(path_is_literal(slice_of("192.0.2.1")));
    assert_false(path_is_literal(slice_of("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_reverse_paths),
        cmocka_unit_test(reads_forward_paths),
        cmocka_unit_test(refuses_every_beginning_of_a_path),
        cmocka_unit_test(tells_what_needs_smtputf8),
        cmocka_unit_test(knows_domains_and_literals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
