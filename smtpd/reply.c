/* The table of replies: see the header. */
#include "smtpd/reply.h"

#include <inttypes.h>
#include <string.h>

/* In a text, a newline begins the next line of the reply, and $h, $s, $i, $r, $m stand for the host's
 * name, the size limit, the message's id, and the limits of recipients and messages. A line that
 * begins with $t is given only while STARTTLS is on offer; it is never the last. Only the greeting, HELO's and EHLO's replies and 3xx are
 * without an enhanced code (RFC 2034, section 4). */
static const struct {
    unsigned code;
    const char *enhanced;
    const char *text;
} rows[REPLY_COUNT] = {
    [REPLY_UNSET] = {0, NULL, ""},
    [REPLY_NONE] = {0, NULL, ""},

    [REPLY_GREETING] = {220, NULL, "$h ESMTP Mayfly"},
    [REPLY_HELO] = {250, NULL, "$h"},
    [REPLY_EHLO] =
        {250, NULL,
         "$h\nPIPELINING\nSIZE $s\n$tSTARTTLS\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nLIMITS "
         "RCPTMAX=$r MAILMAX=$m\nCHUNKING"},
    [REPLY_OK] = {250, "2.0.0", "Ok"},
    [REPLY_SENDER_OK] = {250, "2.1.0", "Sender ok"},
    [REPLY_RECIPIENT_OK] = {250, "2.1.5", "Recipient ok"},
    [REPLY_START_DATA] = {354, NULL, "End data with <CR><LF>.<CR><LF>"},
    [REPLY_CHUNK_OK] = {250, "2.0.0", "Chunk received"},
    [REPLY_START_TLS] = {220, "2.0.0", "Ready to start TLS"},
    [REPLY_QUEUED] = {250, "2.0.0", "Ok: queued as $i"},
    [REPLY_HELP] = {214, "2.0.0",
                    "Mayfly on $h keeps mail for a few days\n"
                    "$tSTARTTLS\n"
                    "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"},
    [REPLY_CANNOT_VERIFY] = {252, "2.0.0", "Cannot verify; try to send it some mail"},
    [REPLY_BYE] = {221, "2.0.0", "Bye"},

    [REPLY_SHUTDOWN] = {421, "4.3.2", "Shutting down; try again"},
    [REPLY_TIMEOUT] = {421, "4.4.2", "Waited too long"},
    [REPLY_TOO_SLOW] = {421, "4.4.2", "The data comes too slowly"},
    [REPLY_SERVER_FULL] = {421, "4.3.2", "Too many connections; try again later"},
    [REPLY_CLIENT_FULL] = {421, "4.7.0", "Too many connections from you"},
    [REPLY_TOO_MANY_ERRORS] = {421, "4.7.0", "Too many errors"},
    [REPLY_TOO_MUCH_JUNK] = {421, "4.7.0", "Too many commands without mail"},
    [REPLY_TOO_MANY_MESSAGES] = {421, "4.7.0", "No more messages in this connection"},
    [REPLY_FOREIGN] = {421, "4.7.0", "Only SMTP is spoken here"},
    [REPLY_INTERNAL] = {421, "4.3.0", "Internal error; try again"},

    [REPLY_TLS_UNAVAILABLE] = {454, "4.7.0", "TLS is not available now; try again later"},
    [REPLY_LOCAL_ERROR] = {451, "4.3.0", "Local error; try again later"},
    [REPLY_POLICY_ERROR] = {451, "4.3.0", "Cannot tell whether to accept this; try again later"},
    [REPLY_NO_SPACE] = {452, "4.3.1", "Not enough disk space; try again later"},
    [REPLY_TOO_MANY_RECIPIENTS] = {452, "4.5.3", "Too many recipients; send the rest separately"},

    [REPLY_MALFORMED] = {500, "5.5.2", "Not a command"},
    [REPLY_LINE_TOO_LONG] = {500, "5.5.2", "Line too long"},
    [REPLY_BAD_LINE_END] = {500, "5.5.2",
                            "Lines end in <CR><LF>, and have no CR, LF or NUL in them"},
    [REPLY_UNKNOWN] = {500, "5.5.1", "Unknown command"},
    [REPLY_UNIMPLEMENTED] = {502, "5.5.1", "Command not implemented"},
    [REPLY_MISUSED] = {501, "5.5.4", "Wrong number of arguments"},
    [REPLY_BAD_NAME] = {501, "5.5.2", "Bad host name"},
    [REPLY_BAD_MAIL] = {501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]"},
    [REPLY_BAD_RCPT] = {501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]"},
    [REPLY_BAD_SENDER] = {501, "5.1.7", "Bad sender address syntax"},
    [REPLY_BAD_RECIPIENT] = {501, "5.1.3", "Bad recipient address syntax"},
    [REPLY_BAD_PARAMETER] = {501, "5.5.4", "Bad parameter, or one given twice"},
    [REPLY_BAD_CHUNK] = {501, "5.5.4",
                         "Syntax: BDAT size [LAST]; where the next command begins is unknown"},
    [REPLY_UNKNOWN_PARAMETER] = {555, "5.5.4", "Unknown parameter"},
    [REPLY_NEED_HELO] = {503, "5.5.1", "Say EHLO or HELO first"},
    [REPLY_NESTED_MAIL] = {503, "5.5.1", "Sender already given"},
    [REPLY_NEED_MAIL] = {503, "5.5.1", "Say MAIL first"},
    [REPLY_NEED_RCPT] = {503, "5.5.1", "Say RCPT first"},
    [REPLY_NO_RECIPIENTS] = {554, "5.5.1", "No valid recipients"},
    [REPLY_IN_CHUNKS] = {503, "5.5.1", "A message is being sent by BDAT; go on, or say RSET"},
    [REPLY_TLS_ALREADY] = {503, "5.5.1", "TLS is in use already"},
    [REPLY_TLS_REQUIRED] = {530, "5.7.0", "Say STARTTLS first"},
    [REPLY_EARLY_TALK] = {554, "5.5.1", "The server speaks first; no mail is taken here"},
    [REPLY_OUT_OF_TURN] = {554, "5.5.1", "Commands came out of turn; no mail is taken here"},
    [REPLY_REJECTED] = {503, "5.5.1", "No mail is taken in this connection; say QUIT"},
    [REPLY_SENDER_NEEDS_UTF8] = {550, "5.6.7", "Address needs SMTPUTF8"},
    [REPLY_RECIPIENT_NEEDS_UTF8] = {553, "5.6.7", "Address needs SMTPUTF8"},
    [REPLY_SENDER_REFUSED] = {550, "5.7.1", "Sender refused"},
    [REPLY_DOMAIN_REFUSED] = {550, "5.7.1", "No mail for this domain here"},
    [REPLY_RECIPIENT_REFUSED] = {550, "5.1.1", "No such mailbox"},
    [REPLY_TOO_BIG] = {552, "5.3.4", "Message too big"},
    [REPLY_TOO_MANY_HOPS] = {554, "5.4.6", "Too many hops: the message goes in circles"},
};

unsigned reply_code(enum reply reply)
{
    return rows[reply].code;
}

const char *reply_enhanced(enum reply reply)
{
    return rows[reply].enhanced;
}

const char *reply_text(enum reply reply)
{
    return rows[reply].text;
}

static void append_value(char which, const struct reply_values *values, struct buffer *out)
{
    switch (which) {
    case 'h':
        buffer_append_string(out, values->hostname);
        break;
    case 's':
        buffer_printf(out, "%" PRIu64, values->max_size);
        break;
    case 'i':
        buffer_append_string(out, values->id);
        break;
    case 'r':
        buffer_printf(out, "%zu", values->max_recipients);
        break;
    case 'm':
        buffer_printf(out, "%u", values->max_messages);
        break;
    }
}

static void append_line(const char *line, size_t length, const struct reply_values *values,
                        struct buffer *out)
{
    const char *end = line + length;

    while (line < end) {
        const char *dollar = memchr(line, '$', (size_t)(end - line));
        const char *stop = dollar != NULL ? dollar : end;
        buffer_append(out, line, (size_t)(stop - line));
        if (dollar == NULL)
            break;
        append_value(dollar[1], values, out);
        line = dollar + 2;
    }
    buffer_append(out, "\r\n", 2);
}

void reply_format(enum reply reply, const struct reply_values *values, struct buffer *out)
{
    const char *line = rows[reply].text;
    const char *enhanced = rows[reply].enhanced;

    if (rows[reply].code == 0)
        return;
    for (;;) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): no row ends with a line of $t */
        const char *newline = strchr(line, '\n');
        size_t length = newline != NULL ? (size_t)(newline - line) : strlen(line);
        if (strncmp(line, "$t", 2) == 0) {
            if (!values->tls) {
                line = newline + 1;
                continue;
            }
            line += 2;
            length -= 2;
        }
        buffer_printf(out, "%u%c%s%s", rows[reply].code, newline != NULL ? '-' : ' ',
                      enhanced != NULL ? enhanced : "", enhanced != NULL ? " " : "");
        append_line(line, length, values, out);
        if (newline == NULL)
            return;
        line = newline + 1;
    }
}
