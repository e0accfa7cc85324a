/* The mail that is measured with: see the header. */
#include "tests/bench/message.h"

#include "tests/bench/measure.h"

#include <string.h>
#include <sys/random.h>

/* RFC 2045, section 6.8: 76 characters and CRLF. */
enum { LINE = 78 };

static const char header[] = "From: sender@bench.example\r\n"
                             "To: user@bench.example\r\n"
                             "Subject: One of many\r\n"
                             "Date: Sat, 21 Nov 2026 19:08:11 +0000\r\n"
                             "Message-ID: <1@bench.example>\r\n"
                             "MIME-Version: 1.0\r\n"
                             "Content-Type: application/octet-stream\r\n"
                             "Content-Transfer-Encoding: base64\r\n"
                             "\r\n";

void message_text(char *text, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t done = 0; done < size;) {
        ssize_t n = getrandom(text + done, size - done, 0);
        if (n < 0)
            measure_die("getrandom");
        done += (size_t)n;
    }
    /* Lines are counted from the end, so that the first one is the odd one, and one byte longer
     * where there would be nothing but its LF. */
    for (size_t i = 0; i < size; i++) {
        size_t to_end = (size - 1 - i) % LINE;
        if (to_end > 1 || (i == 0 && to_end == 0))
            text[i] = digits[text[i] & 63];
        else
            text[i] = to_end == 1 ? '\r' : '\n';
    }
}

size_t message_smallest(void)
{
    return sizeof header - 1 + LINE;
}

void message_make(char *message, size_t size)
{
    memcpy(message, header, sizeof header - 1);
    message_text(message + sizeof header - 1, size - (sizeof header - 1));
}
