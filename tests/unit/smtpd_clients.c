/* Addresses as text and as clients, and the count of their connections. */
#include "smtpd/clients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/config.h"

#include <stdio.h>
#include <string.h>

static struct address address_of(const char *text)
{
    struct sockaddr_storage sockaddr;

    assert_true(config_parse_address(text, &sockaddr));
    return address_from((struct sockaddr *)&sockaddr);
}

static const struct {
    const char *address, *text, *literal;
    unsigned port;
} rows[] = {
    {"192.0.2.1:25", "192.0.2.1", "[192.0.2.1]", 25},
    {"[::ffff:192.0.2.1]:43210", "192.0.2.1", "[192.0.2.1]", 43210},
    {"[2001:db8::1]:25", "2001:db8::1", "[IPv6:2001:db8::1]", 25},
    {"[::1]:0", "::1", "[IPv6:::1]", 0},
    {"255.255.255.255:65535", "255.255.255.255", "[255.255.255.255]", 65535},
    {"[1111:2222:3333:4444:5555:6666:7777:8888]:1", "1111:2222:3333:4444:5555:6666:7777:8888",
     "[IPv6:1111:2222:3333:4444:5555:6666:7777:8888]", 1},
};

static void addresses_have_text_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct address address = address_of(rows[i].address);
        char text[ADDRESS_TEXT_SIZE], literal[ADDRESS_LITERAL_SIZE];
        address_text(&address, text);
        address_literal(&address, literal);
        assert_string_equal(text, rows[i].text);
        assert_string_equal(literal, rows[i].literal);
        assert_int_equal(address.port, rows[i].port);
    }
}

static void a_zone_is_dropped(void **state)
{
    (void)state;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_scope_id = 7};
    struct address address;
    char text[ADDRESS_TEXT_SIZE];

    v6.sin6_addr.s6_addr[0] = 0xfe;
    v6.sin6_addr.s6_addr[1] = 0x80;
    v6.sin6_addr.s6_addr[15] = 1;
    address = address_from((struct sockaddr *)&v6);
    address_text(&address, text);
    assert_string_equal(text, "fe80::1");
}

static void enter(struct clients *clients, const char *text, unsigned want)
{
    struct address address = address_of(text);

    assert_int_equal(clients_enter(clients, &address), want);
}

static void leave(struct clients *clients, const char *text)
{
    struct address address = address_of(text);

    clients_leave(clients, &address);
}

static void a_client_is_an_address_or_a_network(void **state)
{
    (void)state;
    struct clients clients;

    assert_true(clients_init(&clients, 10, 1));
    enter(&clients, "192.0.2.1:1", 1);
    enter(&clients, "192.0.2.1:2", 2);
    enter(&clients, "[::ffff:192.0.2.1]:3", 3);
    enter(&clients, "192.0.2.2:1", 1);
    enter(&clients, "[2001:db8:0:1::1]:1", 1);
    enter(&clients, "[2001:db8:0:1:ffff::2]:1", 2);
    enter(&clients, "[2001:db8:0:2::1]:1", 1);
    leave(&clients, "192.0.2.1:2");
    enter(&clients, "192.0.2.1:4", 3);
    leave(&clients, "192.0.2.2:1");
    enter(&clients, "192.0.2.2:2", 1);
    clients_free(&clients);
}

static void counts_return_to_nothing(void **state)
{
    (void)state;
    struct clients clients;
    char text[40];

    assert_true(clients_init(&clients, 100, 0x0123456789abcdef));
    for (unsigned round = 1; round <= 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(text, sizeof text, "10.%d.%d.1:25", i / 256, i % 256);
            enter(&clients, text, round);
        }
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(text, sizeof text, "10.%d.%d.1:25", i / 256, i % 256);
            leave(&clients, text);
        }
    }
    for (size_t i = 0; i < clients.bucket_count; i++)
        assert_null(clients.buckets[i]);
    clients_free(&clients);
}

static void addresses_to_listen_on_are_read(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "25",      ":25",          "192.0.2.1",    "192.0.2.1:",    "192.0.2.1:x",
        "1.2.3:25", "host:25", "192.0.2.1:-1", "1.2.3.4:25x",  "1.2.3.4:65536", "::1:25",
        "[::1]25",  "[::1:25", "[]:25",        "[1.2.3.4]:25", "[::1%lo]:25",
    };
    struct sockaddr_storage address;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(config_parse_address(bad[i], &address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_text_forms),
        cmocka_unit_test(a_zone_is_dropped),
        cmocka_unit_test(a_client_is_an_address_or_a_network),
        cmocka_unit_test(counts_return_to_nothing),
        cmocka_unit_test(addresses_to_listen_on_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
