"""The tools of the system tests, tried on things of known behaviour: a fake server, a shell
script, a file."""

import contextlib
import datetime
import os
import socket
import ssl
import threading

import pytest

import deadline
import programs as programs_module
import scale
import smtp
import spool as spool_module
import tlsfiles
from load import Post
from programs import Programs, logfmt


@contextlib.contextmanager
def fake(*script):
    """A server that plays a script: bytes are sent, None waits until something was received, a pair
    of tlsfiles begins TLS, "bye" ends TLS, and the end closes. Yields its address and the list of
    what it received."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def play():
        peer, _ = listener.accept()
        with contextlib.ExitStack() as ends:
            ends.callback(lambda: peer.close())
            peer.settimeout(30)
            for step in script:
                if step is None:
                    heard.append(peer.recv(65536))
                elif step == "bye":
                    with contextlib.suppress(ssl.SSLError, TimeoutError):
                        peer.settimeout(0.1)
                        peer.unwrap()
                elif isinstance(step, bytes):
                    peer.sendall(step)
                else:
                    peer = server_context(step).wrap_socket(peer, server_side=True,
                                                            do_handshake_on_connect=False)
                    with contextlib.suppress(ssl.SSLError, OSError):
                        peer.do_handshake()

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield listener.getsockname(), heard
    finally:
        thread.join(30)
        listener.close()


def server_context(pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


def test_greeting_and_multi_line_reply():
    offers = b"250-mayfly.example\r\n250-SIZE 100\r\n250 HELP\r\n"
    with fake(b"220 mayfly.example\r\n", None, offers) as (at, heard), smtp.Client(at) as client:
        assert client.greeting().text == "mayfly.example"
        assert client.ehlo() == {"SIZE": "100", "HELP": ""}
    assert heard == [b"EHLO c.example\r\n"]


def test_enhanced_codes_are_taken_off():
    with fake(b"250-2.1.0 one\r\n250 2.1.0 two\r\n") as (at, _), smtp.Client(at) as client:
        reply = client.reply()
    assert (reply.code, reply.enhanced, reply.lines) == (250, "2.1.0", ["one", "two"])


BROKEN = {
    "bare LF": b"250 2.0.0 Ok\n",
    "too long": b"250 2.0.0 " + b"x" * 501 + b"\r\n",
    "codes differ": b"250-2.0.0 one\r\n251 2.0.0 two\r\n",
    "no enhanced code": b"250 Ok\r\n",
    "no enhanced code in one line": b"250-2.0.0 one\r\n250 two\r\n",
    "enhanced codes differ": b"250-2.0.0 one\r\n250 2.1.0 two\r\n",
    "class differs": b"550 2.0.0 Ok\r\n",
    "enhanced code in 354": b"354 3.0.0 go on\r\n",
    "not ASCII": "250 2.0.0 é\r\n".encode(),
    "control octet": b"250 2.0.0 a\tb\r\n",
    "no code": b"Hello there\r\n",
    "no separator": b"250\r\n",
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_law_broken_is_noticed(reply):
    with fake(reply) as (at, _), smtp.Client(at) as client, pytest.raises(AssertionError):
        client.reply()


def test_enhanced_code_in_the_greeting_is_noticed():
    with fake(b"220 2.0.0 mayfly.example\r\n") as (at, _), smtp.Client(at) as client:
        with pytest.raises(AssertionError):
            client.greeting()


def test_close_and_more_than_expected_are_noticed():
    with fake() as (at, _), smtp.Client(at) as client, pytest.raises(smtp.Closed):
        client.reply()
    with fake(b"250 2.0.0 Ok\r\n") as (at, _), smtp.Client(at) as client:
        with pytest.raises(AssertionError):
            client.expect_close()
    with fake(b"250 2.0.0 Ok\r\n", None) as (at, _), smtp.Client(at) as client:
        with pytest.raises(AssertionError):
            client.expect_silence()
        client.send(b"x")


def test_wrong_code_is_noticed():
    with fake(b"250 2.0.0 Ok\r\n" * 3) as (at, _), smtp.Client(at) as client:
        with pytest.raises(AssertionError):
            client.reply(251)
        with pytest.raises(AssertionError):
            client.reply(250, "2.1.0")
        client.reply((250, 251), ("2.0.0", "2.1.0"))


GO_AHEAD = b"220 2.0.0 Go ahead\r\n"


def test_tls(pair):
    script = (None, GO_AHEAD, pair, None, b"250 2.0.0 Ok\r\n", None, None, b"250 2.0.0 Ok\r\n")
    with fake(*script) as (at, heard), smtp.Client(at) as client:
        client.starttls(pair.client())
        assert client.tls.version == "TLSv1.3"
        client.command("NOOP", 250, "2.0.0")
        client.send("NOOP\r\n", sizes=[4], pause=0.1)
        client.reply(250, "2.0.0")
        client.expect_close()
    assert heard == [b"STARTTLS\r\n", b"NOOP\r\n", b"NOOP", b"\r\n"]


def test_tls_laws_silence_and_ends(pair):
    def behind(*script):
        return fake(None, GO_AHEAD, pair, *script)

    with behind(b"250 Ok\r\n") as (at, _), smtp.Client(at) as client:
        with pytest.raises(AssertionError, match="no enhanced code"):
            client.starttls(pair.client()).reply()
    with behind(None, b"250 2.0.0 Ok\r\n") as (at, _), smtp.Client(at) as client:
        client.starttls(pair.client())
        client.expect_silence(0.2)
        assert not client.readable()
        client.send("NOOP\r\n")
        deadline.wait_for(client.readable, "the reply comes")
        with pytest.raises(AssertionError, match="more than expected"):
            client.expect_close()
    for end in ((), ("bye",)):
        with behind(*end) as (at, _), smtp.Client(at) as client:
            client.starttls(pair.client()).expect_close()
            assert client.tls.ended == bool(end)
    with behind("bye") as (at, _), smtp.Client(at) as client, pytest.raises(AssertionError):
        client.starttls(pair.client()).expect_silence()
    with behind(None) as (at, heard), smtp.Client(at) as client:
        client.starttls(pair.client()).half_close()
        client.expect_close()
    assert heard[1] == b""


def test_tls_of_somebody_else_is_refused(pair, tmp_path):
    other = tlsfiles.make(tmp_path)
    with fake(None, GO_AHEAD, other) as (at, _), smtp.Client(at) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(pair.client())


def test_pieces():
    for sizes, want in [(None, [b"abcdef"]), (4, [b"abcd", b"ef"]), ([6], [b"abcdef"]),
                        ([1, 0, 2], [b"a", b"bc", b"def"])]:
        assert smtp.pieces(b"abcdef", sizes) == want


def test_stuffed():
    assert smtp.stuffed(b".a\r\n..b\r\nc.\r\n\n.\r\n.") == b"..a\r\n...b\r\nc.\r\n\n.\r\n.."


def test_logfmt():
    assert logfmt(r'level=info event=accepted helo="a \"b\" c" size=12 empty=') == {
        "level": "info", "event": "accepted", "helo": 'a "b" c', "size": "12", "empty": ""}


def test_uuid7():
    moment = datetime.datetime(2026, 11, 21, 19, 8, 11, 123456, tzinfo=spool_module.UTC)
    ids = {spool_module.uuid7(moment) for _ in range(1000)}
    assert len(ids) == 1000
    for id in ids:
        assert spool_module.ID.fullmatch(id)
        assert spool_module.uuid7_milliseconds(id) == spool_module.milliseconds(moment)


def test_spool_put_and_parse(spool):
    body = bytes(range(256)) + b"\r\n"
    id = spool.put(body=body, recipients=("b@t.example", "c@t.example"), mail_from="")
    message = spool.message()
    assert (message.id, message.body, message.mail_from) == (id, body, "")
    assert message.recipients == ["b@t.example", "c@t.example"]
    assert message.return_path == "<>"
    assert message.received_field.startswith("from c.example ([192.0.2.1]) by mayfly.example ")
    assert oct(message.path.stat().st_mode & 0o7777) == "0o640"
    assert spool.tmp() == []
    assert len(spool.put_many(10)) == 10 and len(spool.messages()) == 11


@pytest.mark.parametrize("content", [
    b"", b"X-Envelope-Id: 1\r\n",
    spool_module.encode("x", spool_module.now(), "a", ["b"], b"raw"),
    spool_module.encode(spool_module.uuid7(), spool_module.now(), "a", ["b"], b"raw", size=4),
    spool_module.encode(spool_module.uuid7(), spool_module.now(), "a", [], b"raw"),
], ids=["empty", "no size", "no id", "too short", "no recipient"])
def test_spool_parse_is_strict(spool, content):
    id = spool.put(content=content)
    with pytest.raises(AssertionError):
        spool.message(id)


def test_scale():
    assert scale.parse("full") == 1 and scale.parse("0.5") == 0.5
    for wrong in ("0", "2", "-1", "some"):
        with pytest.raises(ValueError):
            scale.parse(wrong)


def test_limit_ends_a_test_that_hangs():
    with pytest.raises(deadline.Overdue), deadline.limit(0.2):
        threading.Event().wait(30)


def script(tmp_path, monkeypatch, text):
    """A program that is a shell script."""
    path = tmp_path / "script"
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)
    monkeypatch.setattr(programs_module, "BUILD", tmp_path)
    return Programs()


def test_program_ready_log_and_stop(tmp_path, monkeypatch):
    started = script(tmp_path, monkeypatch, """
trap 'echo level=info event=stopped >&2; exit 0' TERM
echo "level=info event=listening address=127.0.0.1:1234 setting=$SETTING home=$HOME" >&2
eval "echo >&$READY_FD"
eval "exec $READY_FD>&-"
while :; do sleep 0.05; done
""")
    program = started.start("script", SETTING="x y")
    assert program.wait_log(event="listening")["address"] == "127.0.0.1:1234"
    assert program.log(event="listening", home="")
    program.stop()
    assert program.log(event="stopped")
    assert started.end() == []


def test_program_that_does_not_become_ready(tmp_path, monkeypatch):
    started = script(tmp_path, monkeypatch, "echo event=bad >&2; exit 78")
    with pytest.raises(programs_module.NotReady, match="event=bad"):
        started.start("script")
    assert "ended by itself with 78" in started.end()[0]


READY = 'eval "echo >&$READY_FD"\n'
FOREVER = READY + "while :; do sleep 0.05; done"


@pytest.mark.parametrize("text, wrong", [
    (READY + "exit 0", "ended by itself"),
    ("trap 'echo x.c:1: runtime error: y >&2; exit 0' TERM;" + FOREVER, "a sanitizer spoke"),
    ("trap 'exit 3' TERM;" + FOREVER, "stopped with 3"),
], ids=["by itself", "sanitizer", "status"])
def test_bad_end_is_noticed(tmp_path, monkeypatch, text, wrong):
    started = script(tmp_path, monkeypatch, text)
    program = started.start("script")
    if wrong == "ended by itself":
        program.process.wait(20)
    assert wrong in started.end()[0]
    assert not os.path.exists(f"/proc/{program.pid}")


def test_cluster_survives_what_tests_do(cluster, empty_database):
    empty_database.query("CREATE TABLE kept (n int)")
    empty_database.query("INSERT INTO kept VALUES (%s)", 7)
    for end in (cluster.kill, cluster.immediate, cluster.stop):
        end()
        assert not cluster.running() and not cluster.accepts()
        cluster.start()
        assert empty_database.value("SELECT n FROM kept") == 7
    assert "role" in str(empty_database.query("SELECT 'role'"))


# The post

OFFER = b"220 hello\r\n"


@pytest.mark.parametrize("script", [[], [OFFER], [OFFER, None], [b"554 5.0.0 no\r\n"],
                                    [OFFER, None, b"451 4.0.0 later\r\n"]])
def test_post_comes_again_for_nothing_but_a_421(script):
    with fake(*script) as (address, _), pytest.raises(AssertionError):
        with Post(address, clients=1) as post:
            deadline.wait_for(lambda: post.failures, "it fails")


def test_post_is_not_refused():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        with Post(address, clients=1) as post:
            deadline.wait_for(lambda: post.failures, "it fails")
