"""Descriptors run out: who comes then waits or is told so, nobody is closed without a word, nothing
runs in circles, and it is over when some come back.
"""

import resource
import signal
import subprocess
import time

import pytest

import smtp
from deadline import wait_for
from programs import environment

WATCHED_SECONDS = 1.5


def limit_descriptors(smtpd, count):
    """Leaves it so many in all, from now on; None is what it had."""
    soft, hard = resource.prlimit(smtpd.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(smtpd.pid, resource.RLIMIT_NOFILE, (hard if count is None else count, hard))


def check_idle(smtpd):
    """A program that runs in circles takes all the time that passes."""
    before, start = smtpd.cpu_seconds(), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    assert smtpd.cpu_seconds() - before < (time.monotonic() - start) / 4


def newcomers(smtpd, count):
    return [smtp.Client(smtpd.address) for _ in range(count)]


def waiting(clients):
    """Those who have heard nothing, and are not closed."""
    return [client for client in clients if not client.readable()]


def test_d14_07_descriptors_run_out(programs, spool):
    smtpd = programs.smtpd(spool)
    inside = [smtpd.session("E") for _ in range(10)]
    limit_descriptors(smtpd, smtpd.descriptors())
    outside = newcomers(smtpd, 10)
    assert smtpd.wait_log(event="accept_paused")["error"] == "Too many open files"
    check_idle(smtpd)
    assert waiting(outside) == outside
    for client in inside:
        client.alive()

    # One goes, one comes.
    for place, client in enumerate(inside[:5], 1):
        client.quit()
        wait_for(lambda: len(waiting(outside)) == 10 - place, "the next one is let in")
    check_idle(smtpd)
    assert len(waiting(outside)) == 5

    limit_descriptors(smtpd, None)
    for client in outside:
        client.greeting()
        client.to("E").mail()
    smtpd.wait_log(event="accept_resumed")
    assert len(spool.new()) == 10


def test_messages_wait_for_descriptors_as_clients_do(programs, spool):
    smtpd = programs.smtpd(spool)
    client = smtpd.session("R")
    limit_descriptors(smtpd, smtpd.descriptors())
    client.command("DATA", 354)
    client.content(b"Subject: hello\r\n\r\nhello")
    client.reply((451, 452))
    newcomer, = newcomers(smtpd, 1)
    smtpd.wait_log(event="accept_paused")
    limit_descriptors(smtpd, None)
    client.command("RSET", 250)
    client.mail()
    newcomer.greeting()


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_accepting_fails(programs, spool, faults, error):
    """Whatever runs out, and where it is not ours, so that nothing that ends here helps."""
    smtpd = programs.smtpd(spool, **faults.settings())
    inside = smtpd.session("E")
    faults.fail("accept4", error)
    outside = newcomers(smtpd, 3)
    smtpd.wait_log(event="accept_paused")
    check_idle(smtpd)
    assert waiting(outside) == outside
    inside.mail()
    assert waiting(outside) == outside
    assert len(smtpd.log(event="accept_paused")) == 1, "once a pause"
    faults.clear()
    for client in outside:
        client.greeting()
    smtpd.wait_log(event="accept_resumed")


def test_a_connection_that_broke_while_it_waited_is_passed_over(programs, spool, faults):
    smtpd = programs.smtpd(spool, **faults.settings())
    faults.fail("accept4", "ECONNABORTED")
    client, = newcomers(smtpd, 1)
    client.expect_silence()
    faults.clear()
    client.greeting()
    assert not smtpd.log(event="accept_paused")


def test_it_starts_with_few_descriptors(programs, spool):
    """Fewer than the program wants for itself: it serves one after the other."""
    few = ["bash", "-c", 'ulimit -n 32; exec "$0" "$@"']
    smtpd = programs.smtpd(spool, wrapper=few)
    lowered = smtpd.wait_log(event="connections_lowered")
    assert lowered["descriptors"] == "32"
    crowd = newcomers(smtpd, 60)
    replies = []
    for client in crowd:
        replies.append(client.reply((220, 421), bare=True).code)
        if replies[-1] == 220:
            client.to("E").mail()
            client.quit()
    assert 220 in replies
    assert len(spool.new()) == replies.count(220)
    wait_for(lambda: smtpd.session("G").close() is None, "the next one is served")
    check_idle(smtpd)


@pytest.mark.parametrize("clients", ["127.0.0.1", "@{path}"])
def test_all_that_fit_may_send_to_both_queues_at_once(programs, spool, tmp_path, clients):
    """Three descriptors each where mail may be relayed, by the list as it is or as it may become."""
    path = tmp_path / "clients"
    path.write_text("192.0.2.1\n")
    few = ["bash", "-c", 'ulimit -n 130; exec "$0" "$@"']
    smtpd = programs.smtpd(spool, wrapper=few, SMTPD_DOMAINS="t.example",
                           SMTPD_RELAY_CLIENTS=clients.format(path=path))
    path.write_text("127.0.0.1\n")
    smtpd.send_signal(signal.SIGHUP)
    smtpd.wait_log(event="reloaded")
    fitting = int(smtpd.wait_log(event="connections_lowered")["to"])
    crowd = newcomers(smtpd, fitting)
    for client in crowd:
        client.greeting()
        client.to("R").command("RCPT TO:<b@far.example>", 250)
        client.command("DATA", 354)
        client.send(bytes(200_000))
    wait_for(lambda: len(spool.tmp()) == len(spool.relay.tmp()) == fitting, "files of all are open")
    for client in crowd:
        client.content(b"")
        client.reply(250)
    assert fitting >= 20 and len(spool.new()) == len(spool.relay.new()) == fitting


def test_it_stops_while_descriptors_are_out(programs, spool):
    """Those who wait are not forgotten: with a descriptor that the stop sets free they hear why."""
    smtpd = programs.smtpd(spool)
    inside = smtpd.session("E")
    limit_descriptors(smtpd, smtpd.descriptors())
    outside = newcomers(smtpd, 3)
    smtpd.wait_log(event="accept_paused")
    smtpd.send_signal(15)
    inside.reply(421, "4.3.2")
    inside.close()
    for client in outside:
        client.reply(421, "4.3.2")
        client.expect_close()
    assert smtpd.wait() == 0


@pytest.mark.parametrize("name", ["smtpd", "storer", "relay", "reaper"])
def test_none_are_left_for_a_loop(programs, spool, name):
    """Wherever libuv would have to do without one, which it survives nowhere. Fewer than
    LOOP_DESCRIPTORS (common/program.c) are left behind standard input, output and error."""
    for limit in range(4, 11):
        done = subprocess.run(["prlimit", f"--nofile={limit}", programs.path(name)],
                              env=environment({"SPOOL": spool}), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 71, f"{limit} descriptors: {done.returncode} {done.stderr}"
        assert "event=no_loop" in done.stderr and "Too many open files" in done.stderr
