/* Networks: what an entry may be, and which addresses a set contains. */
#include "smtpd/networks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct address address_of(const char *text)
{
    struct sockaddr_storage sockaddr;
    char place[64];

    snprintf(place, sizeof place, strchr(text, ':') != NULL ? "[%s]:25" : "%s:25", text);
    assert_true(config_parse_address(place, &sockaddr));
    return address_from((struct sockaddr *)&sockaddr);
}

static const struct {
    const char *entry, *base;
    unsigned prefix;
} good[] = {
    {"192.0.2.0/24", "192.0.2.0", 120},
    {"192.0.2.1", "192.0.2.1", 128},
    {"192.0.2.1/32", "192.0.2.1", 128},
    {"192.0.2.254/31", "192.0.2.254", 127},
    {"10.0.0.0/8", "10.0.0.0", 104},
    {"128.0.0.0/1", "128.0.0.0", 97},
    {"0.0.0.0/0", "0.0.0.0", 96},
    {"::ffff:192.0.2.0/120", "192.0.2.0", 120},
    {"::ffff:c000:201", "192.0.2.1", 128},
    {"::ffff:0:0/96", "0.0.0.0", 96},
    {"2001:db8::/32", "2001:db8::", 32},
    {"2001:DB8:0:0:0:0:0:0/29", "2001:db8::", 29},
    {"2001:db8::1", "2001:db8::1", 128},
    {"2001:db8::1/128", "2001:db8::1", 128},
    {"2001:db8::8/125", "2001:db8::8", 125},
    {"fe80::/10", "fe80::", 10},
    {"8000::/1", "8000::", 1},
    {"::/0", "::", 0},
    {"::/80", "::", 80},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 128},
};

static void an_entry_is_a_network_or_an_address(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct network network;
        char text[ADDRESS_TEXT_SIZE];
        assert_true(networks_parse_entry(good[i].entry, &network));
        address_text(&network.base, text);
        assert_string_equal(text, good[i].base);
        assert_int_equal(network.prefix, good[i].prefix);
        assert_int_equal(network.base.port, 0);
    }
}

static const char *const bad[] = {
    "",
    "*",
    "/",
    "/24",
    "192.0.2.0/",
    "0.0.0.0/",
    "::/",
    "192.0.2.0/x",
    "192.0.2.0/-1",
    "192.0.2.0/+1",
    "192.0.2.0/ 24",
    "192.0.2.0/24 ",
    "192.0.2.0/24x",
    "192.0.2.0/024",
    "192.0.2.0/00",
    "192.0.2.0/33",
    "192.0.2.0/255",
    "192.0.2.0/4294967320",
    "192.0.2.0/24/24",
    "192.0.2.0/255.255.255.0",
    "192.0.2",
    "192.0.2.",
    "192.0.2.256",
    "192.0.02.1",
    "192.0.2.1:25",
    "0xc0000201",
    "3221225985",
    "mx.example",
    "2001:db8::/129",
    "2001:db8::/1000",
    "2001:db8::/x",
    "2001:db8/32",
    "2001:db8::1::",
    "2001:db8:::/32",
    "[2001:db8::]/32",
    "fe80::1%lo",
    "1111:2222:3333:4444:5555:6666:7777:8888:9999",
    "1111:2222:3333:4444:5555:6666:255.255.255.255x",
    "11111111111111111111111111111111111111111111111111111111111111111111",
    /* bits behind the prefix */
    "192.0.2.1/24",
    "192.0.2.1/31",
    "192.0.2.0/22",
    "0.0.0.1/0",
    "192.0.2.128/0",
    "::ffff:192.0.2.1/120",
    "::ffff:192.0.2.0/95",
    "2001:db8::1/32",
    "2001:db8::1/127",
    "2001:db8::/28",
    "::1/0",
};

static void anything_else_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        /* An exact copy, so that a sanitizer sees any look beyond its end. */
        char *exact = strdup(bad[i]);
        struct network network;
        if (networks_parse_entry(exact, &network))
            print_message("%s\n", bad[i]);
        assert_false(networks_parse_entry(exact, &network));
        free(exact);
    }
}

enum { ENTRIES = 8 };

static const struct {
    const char *entries[ENTRIES];
    const char *address;
    bool want;
} rows[] = {
    {{NULL}, "192.0.2.1", false},
    {{NULL}, "::", false},
    {{"192.0.2.1"}, "192.0.2.1", true},
    {{"192.0.2.1"}, "192.0.2.0", false},
    {{"192.0.2.1"}, "192.0.2.2", false},
    {{"192.0.2.1"}, "::ffff:192.0.2.1", true},
    {{"::ffff:192.0.2.1"}, "192.0.2.1", true},
    {{"::192.0.2.1"}, "192.0.2.1", false},
    {{"192.0.2.0/24"}, "192.0.1.255", false},
    {{"192.0.2.0/24"}, "192.0.2.0", true},
    {{"192.0.2.0/24"}, "192.0.2.255", true},
    {{"192.0.2.0/24"}, "192.0.3.0", false},
    {{"192.0.2.8/29"}, "192.0.2.7", false},
    {{"192.0.2.8/29"}, "192.0.2.15", true},
    {{"192.0.2.8/29"}, "192.0.2.16", false},
    {{"0.0.0.0/0"}, "0.0.0.0", true},
    {{"0.0.0.0/0"}, "255.255.255.255", true},
    {{"0.0.0.0/0"}, "2001:db8::1", false},
    {{"0.0.0.0/0"}, "::", false},
    {{"::/0"}, "::", true},
    {{"::/0"}, "2001:db8::1", true},
    {{"::/0"}, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true},
    {{"::/0"}, "192.0.2.1", false},
    {{"::/80"}, "192.0.2.1", false},
    {{"::/80"}, "::fffe:192.0.2.1", true},
    {{"::/0", "192.0.2.0/24"}, "192.0.2.1", true},
    {{"::/0", "192.0.2.0/24"}, "192.0.3.1", false},
    {{"::/0", "192.0.2.0/24"}, "2001:db8::1", true},
    {{"2001:db8::/33"}, "2001:db8:7fff:ffff::", true},
    {{"2001:db8::/33"}, "2001:db8:8000::", false},
    {{"8000::/1"}, "7fff::", false},
    {{"8000::/1"}, "ffff::", true},
    /* what lies within another, twice, and next to each other */
    {{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"}, "10.1.2.4", true},
    {{"10.1.2.3", "10.1.0.0/16", "10.0.0.0/8"}, "10.255.255.255", true},
    {{"10.1.2.3", "10.1.0.0/16", "10.0.0.0/8"}, "11.0.0.0", false},
    {{"10.0.0.0/8", "10.0.0.0/16", "10.0.0.0"}, "10.9.0.0", true},
    {{"10.0.0.0", "10.0.0.0/16", "10.0.0.0/8"}, "10.9.0.0", true},
    {{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, "192.0.2.1", true},
    {{"192.0.2.0/25", "192.0.2.128/25"}, "192.0.2.127", true},
    {{"192.0.2.0/25", "192.0.2.128/25"}, "192.0.2.128", true},
    {{"192.0.2.0/25", "192.0.2.192/26"}, "192.0.2.191", false},
    {{"192.0.2.1", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"}, "198.51.100.9", true},
    {{"192.0.2.1", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"}, "203.0.113.9", true},
    {{"192.0.2.1", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"}, "2001:db8::9", true},
    {{"192.0.2.1", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"}, "199.0.0.1", false},
    {{"192.0.2.1", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"}, "2001:db9::", false},
};

static void a_set_contains_what_its_networks_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct address address = address_of(rows[i].address);
        struct networks networks;
        size_t count = 0;
        while (count < ENTRIES && rows[i].entries[count] != NULL)
            count++;
        assert_true(networks_build(&networks, (char *const *)rows[i].entries, count));
        if (networks_contain(&networks, &address) != rows[i].want)
            print_message("row %zu: %s\n", i, rows[i].address);
        assert_int_equal(networks_contain(&networks, &address), rows[i].want);
        networks_free(&networks);
        assert_false(networks_contain(&networks, &address));
    }
}

static unsigned draw(unsigned *random)
{
    *random = *random * 1103515245 + 12345;
    return *random >> 8;
}

/* An address of a space in which small networks meet, of either family. */
static void write_address(char text[static 40], bool ipv4, unsigned place)
{
    if (ipv4)
        snprintf(text, 40, "10.0.%u.%u", place >> 8 & 0xff, place & 0xff);
    else
        snprintf(text, 40, "2001:db8::%x", place & 0xffff);
}

static bool scan(const struct network *all, size_t count, const struct address *address)
{
    for (size_t i = 0; i < count; i++) {
        const struct networks one = {.sorted = (struct network *)&all[i], .count = 1};
        if (networks_contain(&one, address))
            return true;
    }
    return false;
}

static void a_large_set_agrees_with_a_scan(void **state)
{
    (void)state;
    enum { MANY = 4000, LOOKS = 4000 };
    static struct network all[MANY];
    static char texts[MANY][48], *entries[MANY];
    struct networks networks;
    unsigned random = 1;
    size_t found = 0;

    for (size_t i = 0; i < MANY; i++) {
        unsigned behind = draw(&random) % 7;
        write_address(texts[i], i % 2 == 0, draw(&random) >> behind << behind);
        sprintf(texts[i] + strlen(texts[i]), "/%u", (i % 2 == 0 ? 32 : 128) - behind);
        entries[i] = texts[i];
        assert_true(networks_parse_entry(entries[i], &all[i]));
    }
    assert_true(networks_build(&networks, entries, MANY));
    assert_in_range(networks.count, MANY / 10, MANY - 1);
    for (size_t i = 0; i < LOOKS; i++) {
        struct address address;
        char text[40];
        bool want;
        write_address(text, i % 2 == 0, draw(&random));
        address = address_of(text);
        want = scan(all, MANY, &address);
        assert_int_equal(networks_contain(&networks, &address), want);
        found += want;
    }
    assert_in_range(found, LOOKS / 10, LOOKS - LOOKS / 10);
    networks_free(&networks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_a_network_or_an_address),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(a_set_contains_what_its_networks_do),
        cmocka_unit_test(a_large_set_agrees_with_a_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
