"""Whose mail is taken and for whom, as the lists say: in settings, and in files that are read again.

While a list cannot be told, whom it is about is put off (451), and nobody is refused for good.
"""

import os
import shutil
import signal

import pytest

from deadline import wait_for

ACCEPTED, REFUSED, PUT_OFF = (250, "2.1.5"), (550, "5.7.1"), (451, "4.3.0")
SENDER_ACCEPTED = (250, "2.1.0")


def rcpt(smtpd, *paths):
    """What is said to each recipient of a transaction: a list of (code, enhanced code)."""
    with smtpd.session("E") as client:
        client.command("MAIL FROM:<a@c.example> SMTPUTF8", 250)
        replies = [client.command(f"RCPT TO:<{path}>") for path in paths]
        return [(reply.code, reply.enhanced) for reply in replies]


def mail(smtpd, *paths):
    """What is said to each sender: a list of (code, enhanced code)."""
    with smtpd.session("E") as client:
        answers = []
        for path in paths:
            reply = client.command(f"MAIL FROM:<{path}> SMTPUTF8")
            answers.append((reply.code, reply.enhanced))
            client.command("RSET", 250)
        return answers


def reread(smtpd):
    """Has the lists read again, and waits until they are."""
    before = len(smtpd.log(event="reloaded"))
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: len(smtpd.log(event="reloaded")) > before, "the lists are read again")


# Entries, then the domains that they contain and those that they do not.
DOMAINS = {
    "one": ("t.example", ["t.example", "T.EXAMPLE"],
            ["x.t.example", "xt.example", "example", "t.example.org", "[192.0.2.1]"]),
    "below": (".t.example", ["x.t.example", "y.x.T.Example"],
              ["t.example", "xt.example", "x.tt.example", "t.example.x"]),
    "both": ("t.example,.t.example", ["t.example", "x.t.example"], ["xt.example"]),
    "top": (".example", ["t.example", "x.t.example"], ["example", "t.example.org"]),
    "case": ("T.Example,.SUB.example", ["t.example", "t.EXAMPLE", "X.sub.EXAMPLE"],
             ["sub.example"]),
    "all": ("*", ["t.example", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "\u00e9.example"],
            []),
    "all and more": ("t.example,*", ["t.example", "other.example"], []),
    "none": ("", [], ["t.example", "[192.0.2.1]"]),
    "literals": ("[192.0.2.1],[IPv6:2001:db8::1]",
                 ["[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:2001:DB8::1]"],
                 ["[192.0.2.2]", "[IPv6:2001:db8::2]", "192.0.2.1"]),
    "utf-8": ("\u00e9.example,.\u4f8b.example", ["\u00e9.example", "\u00e9.EXAMPLE",
                                                "x.\u4f8b.example", "\u00fc.\u4f8b.example"],
              ["e.example", "\u00e8.example", "\u4f8b.example"]),
    # The two spellings of a name are two entries.
    "a-label": ("xn--9ca.example", ["xn--9ca.example", "XN--9CA.example"], ["\u00e9.example"]),
    "long": (".".join(["x" * 63] * 3) + ".example", [".".join(["X" * 63] * 3) + ".EXAMPLE"],
             [".".join(["x" * 63] * 2) + ".example"]),
}


@pytest.mark.parametrize("entries, inside, outside", DOMAINS.values(), ids=DOMAINS)
def test_domains(programs, spool, entries, inside, outside):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=entries)
    assert rcpt(smtpd, *(f"b@{domain}" for domain in inside)) == [ACCEPTED] * len(inside)
    assert rcpt(smtpd, *(f"b@{domain}" for domain in outside)) == [REFUSED] * len(outside)


@pytest.mark.parametrize("entries, inside, outside", DOMAINS.values(), ids=DOMAINS)
def test_sender_domains(programs, spool, entries, inside, outside):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_SENDERS=entries)
    assert mail(smtpd, *(f"a@{domain}" for domain in inside)) == [REFUSED] * len(inside)
    assert mail(smtpd, *(f"a@{domain}" for domain in outside)) == \
        [SENDER_ACCEPTED] * len(outside)


@pytest.mark.parametrize("entries, inside, outside", DOMAINS.values(), ids=DOMAINS)
def test_discarded_domains(programs, spool, entries, inside, outside):
    """Answered as all mail is, whichever domains are stored here."""
    smtpd = programs.smtpd(spool, SMTPD_DISCARD_DOMAINS=entries, SMTPD_DOMAINS="stored.example")
    assert rcpt(smtpd, *(f"b@{domain}" for domain in inside)) == [ACCEPTED] * len(inside)
    assert rcpt(smtpd, *(f"b@{domain}" for domain in outside)) == [REFUSED] * len(outside)
    if inside:
        with smtpd.session("E") as client:
            client.command("MAIL FROM:<a@c.example> SMTPUTF8", 250)
            client.command(f"RCPT TO:<b@{inside[0]}>", 250)
            client.command("DATA", 354)
            client.content(b"x")
            assert client.reply(250, "2.0.0").id
    assert spool.new() == []


def test_a_trailing_dot_is_no_domain(programs, spool):
    """RFC 5321, section 2.3.5: a name is fully qualified without it. Neither side may write it, so
    that no list is passed by with it."""
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="t.example", SMTPD_REJECT_SENDERS="spam.example")
    assert rcpt(smtpd, "b@t.example.", "b@t.example..") == [(501, "5.1.3")] * 2
    assert mail(smtpd, "a@spam.example.") == [(501, "5.1.7")]
    done = programs.run("smtpd", "--check", SMTPD_DOMAINS="t.example.")
    assert done.returncode == 78 and "SMTPD_DOMAINS" in done.stderr


def test_all_senders_refused(programs, spool):
    """All but the null sender, who must be heard (RFC 5321, section 4.5.5)."""
    smtpd = programs.smtpd(spool, SMTPD_REJECT_SENDERS="*")
    assert mail(smtpd, "a@c.example", "a@[192.0.2.1]", "", "a@x.example") == \
        [REFUSED, REFUSED, SENDER_ACCEPTED, REFUSED]


def vanish(path):
    path.unlink()


def become_a_directory(path):
    path.unlink()
    path.mkdir()


def become_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def lead_in_a_circle(path):
    path.unlink()
    path.symlink_to(path)


def have_a_bad_entry(path):
    path.write_text(path.read_text() + "\nnot a domain\n")


def have_a_mailbox(path):
    path.write_text("b@t.example\n")


def lose_its_bytes(path):
    """As a power cut may leave it."""
    path.write_bytes(b"\0" * 4096)


def grow_too_large(path):
    with path.open("wb") as file:
        file.write(b"# " + b"x" * (16 << 20))


WAYS_TO_BREAK = [vanish, become_a_directory, become_a_pipe, lead_in_a_circle, have_a_bad_entry,
                 have_a_mailbox, lose_its_bytes, grow_too_large]


@pytest.fixture(params=WAYS_TO_BREAK, ids=[way.__name__ for way in WAYS_TO_BREAK])
def broken(request):
    """A function that breaks a list."""
    return request.param


@pytest.fixture
def entries(tmp_path):
    """The file of a list."""
    return tmp_path / "entries"


def mend(path, text):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_text(text)


def said_why(smtpd, name, path):
    found, = [entry for event in ("list_unreadable", "list_invalid")
              for entry in smtpd.log(event=event)]
    assert (found["level"], found["setting"], found["path"]) == ("error", name, str(path))


def test_broken_list_of_domains(programs, spool, entries, broken):
    entries.write_text("t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    assert rcpt(smtpd, "b@t.example", "b@other.example") == [ACCEPTED, REFUSED]
    broken(entries)
    reread(smtpd)
    assert rcpt(smtpd, "b@other.example", "b@new.example", "b@t.example") == [PUT_OFF] * 3
    assert rcpt(smtpd, "postmaster") == [ACCEPTED]
    assert mail(smtpd, "a@c.example") == [SENDER_ACCEPTED]
    said_why(smtpd, "SMTPD_DOMAINS", entries)
    mend(entries, "new.example\n")
    reread(smtpd)
    assert rcpt(smtpd, "b@t.example", "b@new.example") == [REFUSED, ACCEPTED]


def test_broken_list_of_senders(programs, spool, entries, broken):
    entries.write_text("spam.example\n")
    smtpd = programs.smtpd(spool, SMTPD_REJECT_SENDERS=f"@{entries}")
    assert mail(smtpd, "a@spam.example", "a@c.example") == [REFUSED, SENDER_ACCEPTED]
    broken(entries)
    reread(smtpd)
    assert mail(smtpd, "a@spam.example", "a@c.example", "") == [PUT_OFF, PUT_OFF, SENDER_ACCEPTED]
    with smtpd.session("E") as client:
        client.mail(sender="")
    said_why(smtpd, "SMTPD_REJECT_SENDERS", entries)
    mend(entries, "junk.example\n")
    reread(smtpd)
    assert mail(smtpd, "a@spam.example", "a@junk.example") == [SENDER_ACCEPTED, REFUSED]


def test_broken_list_of_discarded_domains(programs, spool, entries, broken):
    """Nothing is discarded on the word of a list that is no more, and nothing stored that was to
    be discarded."""
    entries.write_text("void.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DISCARD_DOMAINS=f"@{entries}")
    broken(entries)
    reread(smtpd)
    assert rcpt(smtpd, "b@void.example", "b@t.example") == [PUT_OFF] * 2
    said_why(smtpd, "SMTPD_DISCARD_DOMAINS", entries)
    mend(entries, ".void.example\n")
    reread(smtpd)
    with smtpd.session("E") as client:
        client.mail(recipients=["b@x.void.example"])
        assert spool.new() == []
        id = client.mail(recipients=["b@void.example"])
    assert spool.message(id).recipients == ["b@void.example"]


def test_a_reread_in_a_transaction(programs, spool, entries):
    """Each recipient is judged when he is named; who was accepted stays so."""
    entries.write_text("t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    with smtpd.session("R") as client:
        entries.write_text("new.example\n")
        reread(smtpd)
        client.command("RCPT TO:<b@new.example>", *ACCEPTED)
        client.command("RCPT TO:<c@t.example>", *REFUSED)
        entries.unlink()
        reread(smtpd)
        client.command("RCPT TO:<c@new.example>", *PUT_OFF)
        client.command("DATA", 354)
        client.content(b"x")
        id = client.reply(250).id
    assert spool.message(id).recipients == ["b@t.example", "b@new.example"]


def test_one_broken_list_keeps_no_other_from_being_read(programs, spool, tmp_path):
    domains, senders = tmp_path / "domains", tmp_path / "senders"
    domains.write_text("t.example\n")
    senders.write_text("spam.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{domains}", SMTPD_REJECT_SENDERS=f"@{senders}")
    domains.unlink()
    senders.write_text("junk.example\n")
    reread(smtpd)
    assert mail(smtpd, "a@spam.example", "a@junk.example") == [SENDER_ACCEPTED, REFUSED]
    assert rcpt(smtpd, "b@t.example") == [PUT_OFF]


def test_a_list_that_becomes_empty_is_no_broken_list(programs, spool, entries):
    entries.write_text("t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    entries.write_text("# none today\n")
    reread(smtpd)
    assert rcpt(smtpd, "b@t.example") == [REFUSED]


def test_files_as_editors_write_them(programs, spool, entries):
    """A byte order mark, CRLF, no line end at the end, white space, comments, the same twice."""
    entries.write_bytes(b"\xef\xbb\xbffirst.example\r\n\tsecond.example , third.example # more\r\n"
                        b"\r\n# fourth.example\r\nT.example\r\nt.EXAMPLE\r\n\xc3\xa9.example")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    assert rcpt(smtpd, "b@first.example", "b@second.example", "b@third.example", "b@t.example",
                "b@\u00e9.example", "b@fourth.example") == [ACCEPTED] * 5 + [REFUSED]


def test_a_new_file_takes_the_place_of_the_old(programs, spool, tmp_path):
    """By rename, and by a link that leads elsewhere, as volumes of containers are changed."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "domains").write_text(f"{version}.example\n")
    data, entries = tmp_path / "data", tmp_path / "domains"
    data.symlink_to("one")
    entries.symlink_to("data/domains")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    assert rcpt(smtpd, "b@one.example", "b@two.example") == [ACCEPTED, REFUSED]
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(data)
    reread(smtpd)
    assert rcpt(smtpd, "b@one.example", "b@two.example") == [REFUSED, ACCEPTED]
    (tmp_path / "new").write_text("three.example\n")
    (tmp_path / "new").rename(entries)
    reread(smtpd)
    assert rcpt(smtpd, "b@two.example", "b@three.example") == [REFUSED, ACCEPTED]


LARGE = 100_000


def test_a_large_list(programs, spool, entries):
    """Looked up at once: 10,000 recipients against 100,000 entries cost hardly more than against
    one. Entry by entry they would be a thousand million comparisons."""
    entries.write_text("".join(f"d{number * 7919 % LARGE}.example\n" for number in range(LARGE)))
    large = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}", SMTPD_MAX_RECIPIENTS=10000,
                           SMTPD_MAX_JUNK=1000000)
    small = programs.smtpd(spool, SMTPD_DOMAINS="*", SMTPD_MAX_RECIPIENTS=10000,
                           SMTPD_MAX_JUNK=1000000)

    def cost(smtpd):
        paths = [f"b@x{number}.d{number}.example" for number in range(0, LARGE, 20)]
        paths += [f"b@d{number}.example" for number in range(0, LARGE, 20)]
        before = smtpd.cpu_seconds()
        with smtpd.session("M") as client:
            codes = []
            for at in range(0, len(paths), 500):
                part = paths[at:at + 500]
                client.send("".join(f"RCPT TO:<{path}>\r\n" for path in part))
                codes += [client.reply().code for _ in part]
        return codes, smtpd.cpu_seconds() - before

    # Without errors: the server bears only so many of them in a connection.
    codes, cheap = cost(small)
    assert codes == [250] * 10000
    entries.write_text(entries.read_text() + ".example\n")
    reread(large)
    codes, dear = cost(large)
    assert codes == [250] * 10000
    assert dear < 5 * cheap + 2


def test_a_large_list_is_exact(programs, spool, entries):
    entries.write_text("".join(f"d{number * 7919 % LARGE}.example\n" for number in range(LARGE)))
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{entries}")
    inside = [f"b@d{number}.example" for number in (0, 1, 49_999, 50_000, LARGE - 2, LARGE - 1)]
    outside = [f"b@{name}.example" for name in ("d", f"d{LARGE}", "d-1", "d00", "e0", "x.d0")]
    assert rcpt(smtpd, *inside) == [ACCEPTED] * len(inside)
    assert rcpt(smtpd, *outside) == [REFUSED] * len(outside)
    entries.write_text("only.example\n")
    reread(smtpd)
    assert rcpt(smtpd, inside[0], "b@only.example") == [REFUSED, ACCEPTED]
