"""The readers of tests/examples, for people who wait for mail in tests of their own: run as they
are, beside the real programs."""

import os
import re
import subprocess

import pytest

from cluster import ROOT
from deadline import wait_for
from programs import READY_SECONDS
from rows import add_mail, clock

EXAMPLES = ROOT / "tests" / "examples"
READERS = {"python": ["/usr/bin/python3", EXAMPLES / "wait_for_mail.py"],
           "shell": ["sh", EXAMPLES / "wait-for-mail.sh"]}
TEMPFAIL = 75

LINK = "https://shop.example/confirm?token=" + "abcdef0123456789" * 8 + "&user=bob"

# Both forms of the text, the link of one broken over lines, and behind it what ends a sentence.
MAIL = (b"Subject: Welcome\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/alternative; boundary=\"=_x\"\r\n\r\n"
        b"--=_x\r\nContent-Type: text/html\r\n\r\n<a href=\"http://other.example/\">x</a>\r\n"
        b"--=_x\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Gr=C3=BC=C3=9Fe! Confirm at " + b"=\r\n".join(
            LINK.replace("=", "=3D").encode()[at:at + 60] for at in range(0, 180, 60))
        + b".\r\n--=_x--\r\n")
HTML = (b"Content-Type: text/html\r\n\r\n<a href='" + LINK.replace("&", "&amp;").encode()
        + b"'>here</a>")


@pytest.fixture
def pipeline(programs, spool, database):
    smtpd = programs.smtpd(spool)
    programs.storer(spool, database)
    return smtpd


@pytest.fixture
def url(cluster, database):
    """The database, for one who may read and nothing else, and whose statements are logged when
    they are done."""
    cluster.execute("CREATE ROLE tester LOGIN IN ROLE mayfly_reader")
    cluster.execute("ALTER ROLE tester SET log_min_duration_statement = 0")
    yield database.url_as("tester")
    cluster.start()
    cluster.execute("DROP ROLE tester")


@pytest.fixture
def read(cluster, url):
    """A function that starts a reader, and one that waits for its end."""
    started = []

    def start(name, *arguments):
        settings = {"DATABASE_URL": url, "PATH": f"{cluster.bin}:{os.environ['PATH']}"}
        started.append(subprocess.Popen([*READERS[name], *arguments], env=os.environ | settings,
                                        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]
    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_of(process):
    said, trouble = process.communicate(timeout=READY_SECONDS)
    return process.returncode, said, trouble


def send(smtpd, recipient, message):
    with smtpd.session("E") as client:
        client.mail(message, recipients=[recipient])


def logged(cluster, mark=0):
    """What was done by tester since the log was that long: LISTEN, and how often it looked."""
    return re.findall(r"statement: (LISTEN|SELECT link)", cluster.log_text()[mark:])


@pytest.mark.parametrize("name", READERS)
def test_mail_that_came_before(pipeline, spool, read, name):
    for recipient, message in ("bob@x.example", b"Subject: x\r\n\r\nhttp://older.example"), \
            ("Bob@X.example", MAIL), ("bob@y.example", b"\r\nhttp://other-domain.example"), \
            ("bob@x.example", b"Subject: no link\r\n\r\nhttps:// is none"):
        send(pipeline, recipient, message)
    wait_for(lambda: not spool.new(), "it is stored")
    assert end_of(read(name, "bob@x.example", "0")) == (0, LINK + "\n", "")


@pytest.mark.parametrize("name, message", zip(READERS, [MAIL, HTML]),
                         ids=READERS)
def test_mail_that_comes_while_it_waits(cluster, pipeline, read, name, message):
    mark = len(cluster.log_text())
    process = read(name, "o'neil+1@x.example")
    wait_for(lambda: "SELECT link" in logged(cluster, mark), "it has looked")
    send(pipeline, "alice@x.example", MAIL.replace(b"shop", b"her"))
    send(pipeline, "o'neil+1@x.example", message)
    assert end_of(process) == (0, LINK + "\n", "")
    done = logged(cluster, mark)
    if name == "python":
        assert done[:2] == ["LISTEN", "SELECT link"]


@pytest.mark.parametrize("name", READERS)
def test_the_first_plain_text_counts(database, read, name):
    """Of as many as the server may put in any order, where it is not told."""
    connection = database.connect()
    add_mail(connection, clock(connection), ["bob@x.example"], MAIL.replace(
        b"--=_x--", b"--=_x" + b"\r\n\r\nhttp://second.example\r\n--=_x" * 10 + b"--"))
    connection.commit()
    assert end_of(read(name, "bob@x.example", "0")) == (0, LINK + "\n", "")


@pytest.mark.parametrize("name", READERS)
def test_no_mail(read, name):
    assert end_of(read(name, "bob@x.example", "1")) == (TEMPFAIL, "", "")
    code, said, trouble = end_of(read(name))
    assert code not in (0, TEMPFAIL) and said == "" and trouble


@pytest.mark.parametrize("name", READERS)
def test_no_database(cluster, read, name):
    """It does not take trouble for no mail."""
    cluster.stop()
    code, said, trouble = end_of(read(name, "bob@x.example", "60"))
    assert code not in (0, TEMPFAIL) and said == "" and trouble


def test_they_are_short():
    for _, path in READERS.values():
        assert len(path.read_text().splitlines()) <= 30
