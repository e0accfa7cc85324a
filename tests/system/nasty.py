"""Messages that are wrong in every way, or larger or deeper than anyone reads: whatever reads mail
must read these, within bounded time and memory, and never fail."""

from scale import scaled

LARGE = scaled(25 << 20, 1 << 19)

MULTIPART = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n'


def nested(levels):
    """A multipart in a multipart, and so on, that many times, and one line of text in the last."""
    opened = b"".join(MULTIPART % b"b%d" % level + b"--b%d\r\n" % level for level in range(levels))
    closed = b"".join(b"\r\n--b%d--\r\n" % level for level in reversed(range(levels)))
    return opened + b"\r\ntext" + closed


def many_parts(count):
    return MULTIPART % b"b" + b"--b\r\n\r\nx\r\n" * count + b"--b--\r\n"


def messages_within(levels):
    return b"Content-Type: message/rfc822\r\n\r\n" * levels + b"Subject: in\r\n\r\ntext"


NASTY = {
    "empty": b"",
    "an empty line": b"\r\n",
    "line ends": b"\r\n" * 1000,
    "one NUL": b"\0",
    "every byte": bytes(range(256)) * 4,
    "NUL in header and body": b"Sub\0ject: a\0b\r\nTo: \0\r\n\r\n\0\0",
    "no header": b"just a line\r\nand another: one\r\n",
    "a line that is no field": b"Received: x\r\nFrom alice\r\nSubject: hi\r\nTo: x\r\n\r\n",
    "a fold and no field": b"To: x\r\n y\r\nz\r\nSubject: hi\r\n there\r\n\r\n",
    "header without a body": b"Subject: x\r\nTo: y",
    "colons": b":\r\n: x\r\n::\r\n",
    "begins with white space": b" folded: x\r\nSubject: y\r\n\r\n",
    "8-bit": b"Subject: \xc3\xbc\r\nX-\xe4: \xfc\r\n"
             b"Content-Type: text/plain; name=\xfc\r\n\r\n\xfc",
    "bare CR": b"Subject: a\rb\r\r\nTo: c\r\r\n\r\r\nbody",
    "backslashes": b"Subject: \\344 \\\\ \\x\r\nContent-Type: text/\\\r\n\r\n\\344",
    "half a header": b"Subject",
    "header of one line": b"Subject: " + b"x" * 400_000,
    "text of one line": b"Received: x\r\n" + b"text, " * 60_000,
    "a word of one line": b"Received: x\r\n" + b"x" * 400_000,
    "header of short lines": b"a:\n" * 90_000,
    "header of 8-bit lines": b"a:\xff\n" * 70_000,
    "header of folds": b"Subject:" + b"\n x" * 100_000,
    "header of broken words": b"Subject: " + b"=?utf-8?Q?=FF?= " * 20_000,
    "fields of broken words": (b"Subject: " + b"=?utf-8?Q?=FF?= " * 500 + b"\r\n") * 33,
    "type without a value": b"Content-Type:\r\nContent-Transfer-Encoding:\r\n\r\nx",
    "parameters": b"Content-Type: text/plain; charset=; =x; ;; name*=; name*0*=%;a*b*c=d; x=\"\\"
                  b"\r\n\r\nx",
    "parameters by the thousand": b"Content-Type: text/plain" + b"; name*%d*=%%41" * 5000 % tuple(
        range(5000)) + b"\r\n\r\nx",
    "quotes": b"Content-Type: text/plain; name=" + b'"\\' * 20_000 + b"\r\n\r\nx",
    "parentheses": b"Content-Type: text/plain; charset=x " + b"(" * 20_000 + b"\r\n\r\nx",
    "spaces": b"Content-Type: text/plain" + b" " * 30_000 + b";" + b" " * 30_000 + b"x\r\n\r\nx",
    "charset of the server's": b"Content-Type: text/plain; charset=mule_internal\r\n\r\n\x81\xff",
    "broken base64": b"Content-Transfer-Encoding: base64\r\n\r\naGk\xff=!\0aGk\r\n",
    "nothing of base64": b"Content-Transfer-Encoding: base64\r\n\r\n====\r\n!!!",
    "broken quoted-printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                               b"=\0=4=zz==\xff=",
    "multipart without boundary": b"Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n----\r\n",
    "multipart with an empty boundary": MULTIPART % b"" + b"--\r\n\r\nx\r\n----\r\n",
    "boundary that is not there": MULTIPART % b"b" + b"text\r\n",
    "boundary of a hundred thousand": MULTIPART % (b"b" * 100_000) + b"--" + b"b" * 100_000,
    "boundary with 8 bits": MULTIPART % b"\xff\xc3" + b"--\xff\xc3\r\n\r\nx\r\n",
    "boundary of lines": b"Content-Type: multipart/mixed; boundary*=utf-8''b" + b"%0A--b" * 500
                         + b"\r\n\r\n" + b"\n--b" * 5000 + b"\r\n\r\nx",
    "file names of broken words": MULTIPART % b"b" + (
        b"--b\r\nContent-Disposition: x; filename=\"" + b"=?utf-8?Q?=FF?= " * 500
        + b"\"\r\n\r\n") * 20,
    "unterminated multipart": MULTIPART % b"b" + b"--b\r\n\r\nx",
    "nothing but delimiters": MULTIPART % b"b" + b"--b\r\n--b\r\n--b",
    "a multipart in its own header": MULTIPART % b"b" + b"--b\r\nContent-Type: text/plain\r\n--b--",
    "almost delimiters": MULTIPART % b"b" + b"--bb\r\n" * 100_000,
    "almost delimiters in many parts": MULTIPART % b"b" + b"".join(
        b"--b\r\n" + MULTIPART % b"c%d" % part + b"--c%dx\r\n" % part * 100 for part in range(100)),
    "a delimiter and spaces": MULTIPART % b"b" + b"--b" + b" " * 100_000 + b"\r\n",
    "a thousand levels": nested(1000),
    "a hundred thousand parts": many_parts(100_000),
    "parts of parts": many_parts(100).replace(b"\r\n\r\nx", b"\r\n" + many_parts(100).replace(
        b"--b", b"--c").replace(b'"b"', b'"c"')),
    "a thousand messages in each other": messages_within(1000),
    "messages of lost parts": MULTIPART % b"b" + (
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n"
        * 3),
    "a message deep down": nested(31).replace(b"\r\ntext", messages_within(1).replace(
        b"Subject: in\r\n", MULTIPART % b"c" + b"--c\r\n")),
    "large text": b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * (LARGE // 78),
    "large binary": b"Content-Type: text/plain\r\n\r\n" + bytes(range(256)) * (LARGE // 256),
    "large with empty lines": MULTIPART % b"b" + b"\r\n" * (LARGE // 2),
    "large with delimiters": MULTIPART % b"b" + b"--b\n" * (LARGE // 4),
    "large and deep": nested(1000).replace(b"text", b"-" * LARGE),
    "large base64, broken": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"aGk!" * (LARGE // 4),
    "large quoted-printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                              + b"=FF" * (LARGE // 3),
}
