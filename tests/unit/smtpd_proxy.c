/* The header of the PROXY protocol: both versions, whole and in parts, and nothing that only looks
 * like one. */
#include "smtpd/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* What stands behind a header belongs to the client: more than a header may use of it shows. */
#define BEHIND "EHLO c.example\r\n"

/* Feeds `input` in parts of `part` octets and writes down what comes out: the client and its port,
 * `local`, the reason of a refusal, or `+` when it has not ended. Returns the octets used. */
static size_t feed(const char *input, size_t length, size_t part, char got[static 80])
{
    enum proxy_status status = PROXY_PARTIAL;
    struct proxy proxy = {0};
    size_t used = 0;

    while (status == PROXY_PARTIAL && used < length) {
        size_t given = part < length - used ? part : length - used, taken;
        /* An exact copy, so that a sanitizer sees any look beyond what was given. */
        char *exact = malloc(given);
        assert_non_null(exact);
        memcpy(exact, input + used, given);
        taken = proxy_feed(&proxy, exact, given, &status);
        free(exact);
        assert_true(status == PROXY_PARTIAL ? taken == given : taken <= given);
        used += taken;
    }
    if (status == PROXY_PARTIAL) {
        snprintf(got, 80, "+");
    } else if (status == PROXY_BAD) {
        snprintf(got, 80, "%s", proxy.reason);
    } else if (proxy.local) {
        snprintf(got, 80, "local");
    } else {
        char text[ADDRESS_TEXT_SIZE];
        address_text(&proxy.client, text);
        snprintf(got, 80, "%s %u", text, proxy.client.port);
    }
    return used;
}

/* Whole, an octet at a time, and in every other part; the octets used are the same in all. */
static size_t gives(const char *name, const char *input, size_t length, const char *want)
{
    char got[80];
    size_t used = feed(input, length, length > 0 ? length : 1, got);

    if (strcmp(got, want) != 0)
        print_message("%s\n", name);
    assert_string_equal(got, want);
    for (size_t part = 1; part < length; part += part < 130 ? 1 : 997) {
        size_t again = feed(input, length, part, got);
        assert_string_equal(got, want);
        assert_int_equal(again, used);
    }
    return used;
}

#define LONG_IPV6 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
#define FORTY_SIX "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
#define TEN       "xxxxxxxxxx"
#define NINETY    TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct {
    const char *line, *want;
} lines[] = {
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n", "192.0.2.1 56324"},
    {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255 65535"},
    {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0 0"},
    {"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", "2001:db8::1 1"},
    {"PROXY TCP6 2001:DB8:0:0:0:0:0:1 :: 1 25\r\n", "2001:db8::1 1"},
    {"PROXY TCP6 " LONG_IPV6 " " LONG_IPV6 " 65535 65535\r\n", LONG_IPV6 " 65535"},
    {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 56324 25\r\n", "192.0.2.1 56324"},
    {"PROXY UNKNOWN\r\n", "local"},
    {"PROXY UNKNOWN \r\n", "local"},
    {"PROXY UNKNOWN what\tever\xff  TCP4\r\n", "local"},
    {"PROXY UNKNOWN " LONG_IPV6 " " LONG_IPV6 " 65535 65535\r\n", "local"},
    {"PROXY UNKNOWN " NINETY "x\r\n", "local"},
    /* the words and what is between them */
    {"PROXY\r\n", "missing"},
    {"PROXY \r\n", "protocol"},
    {"PROXY TCP4\r\n", "protocol"},
    {"PROXY TCP4 \r\n", "line"},
    {"PROXY UNKNOWNX\r\n", "protocol"},
    {"PROXY unknown\r\n", "protocol"},
    {"PROXY tcp4 192.0.2.1 198.51.100.1 56324 25\r\n", "protocol"},
    {"PROXY TCP5 192.0.2.1 198.51.100.1 56324 25\r\n", "protocol"},
    {"PROXY TCP 192.0.2.1 198.51.100.1 56324 25\r\n", "protocol"},
    {"PROXY UDP4 192.0.2.1 198.51.100.1 56324 25\r\n", "protocol"},
    {"PROXY  TCP4 192.0.2.1 198.51.100.1 56324 25\r\n", "protocol"},
    {"PROXY\tTCP4 192.0.2.1 198.51.100.1 56324 25\r\n", "missing"},
    {"proxy TCP4 192.0.2.1 198.51.100.1 56324 25\r\n", "missing"},
    {" PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n", "missing"},
    {"PROXY TCP4  192.0.2.1 198.51.100.1 56324 25\r\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324  25\r\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 \r\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 1\r\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 \r\n", "port"},
    {"PROXY TCP4 192.0.2.1\t198.51.100.1 56324 25\r\n", "line"},
    /* addresses */
    {"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n", "address"},
    {"PROXY TCP6 192.0.2.1 198.51.100.1 56324 25\r\n", "address"},
    {"PROXY TCP4 192.0.2.1 2001:db8::2 56324 25\r\n", "address"},
    {"PROXY TCP4 192.0.2 198.51.100.1 56324 25\r\n", "address"},
    {"PROXY TCP4 192.0.2.256 198.51.100.1 56324 25\r\n", "address"},
    {"PROXY TCP4 192.0.02.1 198.51.100.1 56324 25\r\n", "address"},
    {"PROXY TCP4 192.0.2.1 198.51.100.01 56324 25\r\n", "address"},
    {"PROXY TCP4 mx.example 198.51.100.1 56324 25\r\n", "address"},
    {"PROXY TCP6 2001:db8::1::2 :: 1 25\r\n", "address"},
    {"PROXY TCP6 2001:db8:0:0:0:0:1 :: 1 25\r\n", "address"},
    {"PROXY TCP6 fe80::1%lo :: 1 25\r\n", "address"},
    {"PROXY TCP6 2001:db8::00001 :: 1 25\r\n", "address"},
    /* ports */
    {"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 25 65536\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 4294967321 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 025 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 25 00\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 -1 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 +1 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 0x19 25\r\n", "port"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 smtp 25\r\n", "port"},
    /* its end */
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\n", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r", "line"},
    {"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\r\n", "line"},
    {"PROXY TCP4 192.0.2.1\n198.51.100.1 56324 25\r\n", "line"},
    {"PROXY UNKNOWN\n", "line"},
    {"PROXY UNKNOWN a\rb\r\n", "line"},
    {"PROXY UNKNOWN " NINETY "xx\r\n", "too_long"},
    {"PROXY UNKNOWN " NINETY NINETY "\r\n", "too_long"},
    {"PROXY TCP6 " FORTY_SIX " " FORTY_SIX " 6 6\r\n", "too_long"},
    {NINETY "\r\n", "missing"},
    {BEHIND, "missing"},
    {"\n", "missing"},
    {"\r\n", "missing"},
    {"\r\n\r\nPROXY UNKNOWN\r\n", "missing"},
};

static void lines_are_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        bool done = strchr(lines[i].want, ' ') != NULL || strcmp(lines[i].want, "local") == 0;
        char input[400];
        size_t used;
        snprintf(input, sizeof input, "%s" BEHIND, lines[i].line);
        used = gives(lines[i].line, input, strlen(input), lines[i].want);
        if (done)
            assert_int_equal(used, strlen(lines[i].line));
        assert_true(used <= PROXY_LINE_LIMIT);
    }
}

static void a_nul_in_a_line_hides_nothing(void **state)
{
    (void)state;
    static const char hidden[] = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\0 x\r\n";
    static const char unknown[] = "PROXY UNKNOWN\0\r\n";

    gives("hidden", hidden, sizeof hidden - 1, "line");
    gives("unknown", unknown, sizeof unknown - 1, "line");
}

/* A header of version 2 under construction. */
struct block {
    uint8_t bytes[70000];
    size_t length;
};

static void add(struct block *block, const void *bytes, size_t length)
{
    memcpy(block->bytes + block->length, bytes, length);
    block->length += length;
}

static void begin(struct block *block, unsigned command, unsigned family)
{
    const uint8_t head[] = {(uint8_t)command, (uint8_t)family, 0, 0};

    block->length = 0;
    add(block, SIGNATURE, 12);
    add(block, head, sizeof head);
}

static void set_length(struct block *block, size_t length)
{
    block->bytes[14] = (uint8_t)(length >> 8);
    block->bytes[15] = (uint8_t)length;
}

static void add_tlv(struct block *block, unsigned type, const void *value, size_t length)
{
    const uint8_t head[] = {(uint8_t)type, (uint8_t)(length >> 8), (uint8_t)length};

    add(block, head, sizeof head);
    add(block, value, length);
}

static const char ipv4[] = "\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x00\x19";
static const char ipv6[] = "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                           "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"
                           "\xdc\x04\x00\x19";
static const char mapped[] = "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
                             "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x01"
                             "\xdc\x04\x00\x19";
static const char zeros[5000];

enum { IPV4 = sizeof ipv4 - 1, IPV6 = sizeof ipv6 - 1 };

#define WANT_IPV4 "192.0.2.1 56324"
#define WANT_IPV6 "2001:db8::1 56324"

static const struct {
    const char *name;
    unsigned command, family;
    const char *bytes;
    size_t length;
    const char *want;
} blocks[] = {
    {"TCP over IPv4", 0x21, 0x11, ipv4, IPV4, WANT_IPV4},
    {"TCP over IPv6", 0x21, 0x21, ipv6, IPV6, WANT_IPV6},
    {"TCP over IPv6, mapped", 0x21, 0x21, mapped, IPV6, WANT_IPV4},
    {"LOCAL", 0x20, 0x00, "", 0, "local"},
    {"LOCAL with addresses", 0x20, 0x11, ipv4, IPV4, "local"},
    {"LOCAL with too little for its family", 0x20, 0x21, ipv4, IPV4, "local"},
    {"LOCAL with junk", 0x20, 0xff, "\3\xff\xff", 3, "local"},
    {"LOCAL, as long as may be", 0x20, 0x00, zeros, 4096, "local"},
    {"LOCAL, longer", 0x20, 0x00, zeros, 4097, "too_long"},
    {"UNSPEC", 0x21, 0x00, "", 0, "local"},
    {"UNSPEC with junk", 0x21, 0x00, "\3\xff\xff", 3, "local"},
    {"UNSPEC, STREAM", 0x21, 0x01, "", 0, "local"},
    {"IPv4, UNSPEC", 0x21, 0x10, ipv4, IPV4, "local"},
    {"UDP over IPv4", 0x21, 0x12, ipv4, IPV4, "local"},
    {"UDP over IPv6", 0x21, 0x22, ipv6, IPV6, "local"},
    {"UNIX, STREAM", 0x21, 0x31, zeros, 216, "local"},
    {"UNIX, DGRAM", 0x21, 0x32, zeros, 216, "local"},
    {"family 4", 0x21, 0x41, ipv4, IPV4, "family"},
    {"family 15", 0x21, 0xf1, ipv4, IPV4, "family"},
    {"transport 3", 0x21, 0x13, ipv4, IPV4, "family"},
    {"transport 15", 0x21, 0x0f, ipv4, IPV4, "family"},
    {"command 2", 0x22, 0x11, ipv4, IPV4, "command"},
    {"command 15", 0x2f, 0x00, "", 0, "command"},
    {"version 1", 0x11, 0x11, ipv4, IPV4, "version"},
    {"version 3", 0x31, 0x11, ipv4, IPV4, "version"},
    {"version 0", 0x00, 0x00, "", 0, "version"},
    {"IPv4, nothing", 0x21, 0x11, "", 0, "too_short"},
    {"IPv4, an octet too few", 0x21, 0x11, ipv4, IPV4 - 1, "too_short"},
    {"IPv6 with addresses of IPv4", 0x21, 0x21, ipv4, IPV4, "too_short"},
    {"IPv6, an octet too few", 0x21, 0x21, ipv6, IPV6 - 1, "too_short"},
};

static void blocks_are_read(void **state)
{
    (void)state;
    static struct block block;

    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        bool done = strchr(blocks[i].want, ' ') != NULL || strcmp(blocks[i].want, "local") == 0;
        size_t length, used;
        begin(&block, blocks[i].command, blocks[i].family);
        add(&block, blocks[i].bytes, blocks[i].length);
        set_length(&block, blocks[i].length);
        length = block.length;
        add(&block, BEHIND, sizeof BEHIND - 1);
        used = gives(blocks[i].name, (const char *)block.bytes, block.length, blocks[i].want);
        assert_true(done ? used == length : used <= 16);
        /* without its last octet it has not ended */
        if (done)
            gives(blocks[i].name, (const char *)block.bytes, length - 1, "+");
    }
}

/* 65535 octets are refused before one of them has come. */
static void a_header_has_a_limit(void **state)
{
    (void)state;
    static struct block block;
    static const unsigned families[] = {0x00, 0x11, 0x21, 0x31};

    for (unsigned command = 0x20; command <= 0x21; command++) {
        for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
            begin(&block, command, families[i]);
            set_length(&block, 65535);
            assert_int_equal(gives("head", (const char *)block.bytes, 16, "too_long"), 16);
            assert_int_equal(gives("head", (const char *)block.bytes, 15, "+"), 15);
            set_length(&block, PROXY_BLOCK_LIMIT + 1);
            assert_int_equal(gives("head", (const char *)block.bytes, 16, "too_long"), 16);
        }
    }
    assert_true(sizeof(struct proxy) <= 192);
}

/* Every octet of the signature counts, and is judged as it comes. */
static void a_signature_is_exact(void **state)
{
    (void)state;
    static struct block block;

    for (size_t i = 0; i < 12; i++) {
        begin(&block, 0x20, 0x00);
        block.bytes[i] ^= 1;
        assert_int_equal(gives("signature", (const char *)block.bytes, 16, "missing"), i + 1);
    }
    gives("nothing", "", 0, "+");
}

static void begin_ipv4(struct block *block)
{
    begin(block, 0x21, 0x11);
    add(block, ipv4, IPV4);
}

static size_t end_gives(struct block *block, const char *name, const char *want)
{
    size_t length = block->length, used;

    set_length(block, length - 16);
    add(block, BEHIND, sizeof BEHIND - 1);
    used = gives(name, (const char *)block->bytes, block->length, want);
    if (strchr(want, ' ') != NULL)
        assert_int_equal(used, length);
    return used;
}

static void tlvs_are_skipped(void **state)
{
    (void)state;
    static struct block block;

    begin(&block, 0x21, 0x21);
    add(&block, ipv6, IPV6);
    add_tlv(&block, 0x04, "", 0);
    end_gives(&block, "an empty one", WANT_IPV6);
    begin_ipv4(&block);
    add_tlv(&block, 0x01, "smtp", 4);
    add_tlv(&block, 0x04, "", 0);
    add_tlv(&block, 0xff, "\x03\x00\x04", 3);
    add_tlv(&block, 0x05, zeros, 128);
    end_gives(&block, "several", WANT_IPV4);
    begin_ipv4(&block);
    add_tlv(&block, 0xe0, zeros, PROXY_BLOCK_LIMIT - IPV4 - 3);
    end_gives(&block, "as long as may be", WANT_IPV4);
}

static void tlvs_must_fit(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t length;
        size_t told; /* the octets that tell */
    } rows[] = {
        {"a type alone", "\x04", 1, 1},
        {"half a length", "\x04\x00", 2, 2},
        {"no value", "\x04\x00\x01", 3, 3},
        {"half a value", "\x04\x00\x03xx", 5, 3},
        {"a length beyond all", "\x04\xff\xffxx", 5, 3},
        {"an octet over", "\x04\x00\x01xx", 5, 5},
        {"the second too long", "\x04\x00\x01x\x04\x00\x02x", 8, 7},
        {"a checksum cut off", "\x03\x00\x04\x00\x00\x00", 6, 3},
    };
    static struct block block;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin_ipv4(&block);
        add(&block, rows[i].bytes, rows[i].length);
        assert_int_equal(end_gives(&block, rows[i].name, "tlv"), 16 + IPV4 + rows[i].told);
    }
}

/* ALPN, name, checksum, padding, id, TLS with its version, and namespace: the checksum is that of
 * another implementation, which also gives 0xe3069283 for `123456789`, the usual check. */
static const char every_tlv[] =
    SIGNATURE "\x21\x11\x00\x4a\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x00\x19"
              "\x01\x00\x04smtp\x02\x00\x0amx.example\x03\x00\x04\xbb\x70\x59\x86\x04\x00\x00"
              "\x05\x00\x04\x01\x02\x03\x04\x20\x00\x0f\x01\x00\x00\x00\x00\x21\x00\x07TLSv1.3"
              "\x30\x00\x04"
              "blue";

enum { EVERY_TLV = sizeof every_tlv - 1, COMMAND = 12, FAMILY = 13, CHECKSUM_TYPE = 48 };

/* No bit of the header can change unseen, but for those that say that no address is meant, or that
 * no checksum is. */
static void a_checksum_is_checked(void **state)
{
    (void)state;
    char changed[EVERY_TLV], got[80];

    assert_int_equal(gives("every", every_tlv, EVERY_TLV, WANT_IPV4), EVERY_TLV);
    for (size_t i = 0; i < EVERY_TLV; i++) {
        for (int bit = 0; bit < 8 && i != CHECKSUM_TYPE; bit++) {
            memcpy(changed, every_tlv, EVERY_TLV);
            changed[i] = (char)(changed[i] ^ 1 << bit);
            feed(changed, EVERY_TLV, EVERY_TLV, got);
            assert_null(strchr(got, ' '));
            if (i != COMMAND && i != FAMILY)
                assert_string_not_equal(got, "local");
            if (i >= 16 && i < 16 + IPV4)
                assert_string_equal(got, "checksum");
        }
    }
}

static void a_checksum_has_a_form(void **state)
{
    (void)state;
    static struct block block;

    begin_ipv4(&block);
    add_tlv(&block, 0x03, "\x2c\x39\x36\xe2", 4);
    end_gives(&block, "right", WANT_IPV4);
    begin_ipv4(&block);
    add_tlv(&block, 0x03, "\xe2\x36\x39\x2c", 4);
    end_gives(&block, "in the other order", "checksum");
    begin_ipv4(&block);
    add_tlv(&block, 0x03, zeros, 4);
    end_gives(&block, "zero", "checksum");
    begin_ipv4(&block);
    add_tlv(&block, 0x03, zeros, 3);
    end_gives(&block, "too short", "checksum");
    begin_ipv4(&block);
    add_tlv(&block, 0x03, zeros, 0);
    end_gives(&block, "empty", "checksum");
    begin_ipv4(&block);
    add_tlv(&block, 0x03, "\0\0\0\0\xbe\x29\x45\xa0", 8);
    end_gives(&block, "right, but for its length", "checksum");
    begin_ipv4(&block);
    add_tlv(&block, 0x03, "\x3a\xd6\xdf\x44", 4);
    add_tlv(&block, 0x03, "\x3a\xd6\xdf\x44", 4);
    end_gives(&block, "right, but twice", "checksum");
}

/* What is not used is not judged either. */
static void a_block_of_no_use_is_not_looked_into(void **state)
{
    (void)state;
    static struct block block;

    begin(&block, 0x20, 0x11);
    add(&block, ipv4, IPV4);
    add_tlv(&block, 0x03, zeros, 4);
    add(&block, "\x04", 1);
    set_length(&block, block.length - 16);
    gives("LOCAL", (const char *)block.bytes, block.length, "local");
    block.bytes[12] = 0x21;
    block.bytes[13] = 0x12;
    gives("DGRAM", (const char *)block.bytes, block.length, "local");
    block.bytes[13] = 0x11;
    gives("PROXY", (const char *)block.bytes, block.length, "tlv");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_strictly),
        cmocka_unit_test(a_nul_in_a_line_hides_nothing),
        cmocka_unit_test(blocks_are_read),
        cmocka_unit_test(a_header_has_a_limit),
        cmocka_unit_test(a_signature_is_exact),
        cmocka_unit_test(tlvs_are_skipped),
        cmocka_unit_test(tlvs_must_fit),
        cmocka_unit_test(a_checksum_is_checked),
        cmocka_unit_test(a_checksum_has_a_form),
        cmocka_unit_test(a_block_of_no_use_is_not_looked_into),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
