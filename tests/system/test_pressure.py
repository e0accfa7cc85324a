"""When most places are taken the limits tighten by themselves, so that new mail still gets in."""

import time

import pytest

import smtp
from deadline import wait_for

LIMIT = 16
CROWD = 14   # 7/8 of them

# What the log names, and what it is under pressure where the settings leave more.
TIGHT = {"timeout": "10", "max_time": "300", "max_errors": "2", "max_junk": "10",
         "error_delay": "0"}


def numbers(entry):
    return {name: entry.get(name) for name in TIGHT}


def test_idle_clients_give_way_to_mail(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=LIMIT)
    start = time.monotonic()
    idle = [smtpd.session("E") for _ in range(CROWD - 1)]
    assert not smtpd.log(event="pressure")
    idle.append(smtpd.session("E"))
    entry = smtpd.wait_log(event="pressure")
    assert entry["level"] == "warn" and numbers(entry) == TIGHT
    # The last eighth is free for those who have something to send, even now.
    with smtpd.session("E") as client:
        client.mail()
        client.quit()
    full = [smtpd.session("E") for _ in range(LIMIT - CROWD)]
    with smtp.Client(smtpd.address) as late:
        late.reply(421, "4.3.2")
    for client in idle + full:
        client.reply(421, "4.4.2")
        client.expect_close()
    assert 9 <= time.monotonic() - start < 60, "the timeout of the settings is 300 s"
    over = smtpd.wait_log(event="pressure_over")
    assert numbers(over) == {
        "timeout": "300", "max_time": "3600", "max_errors": "20", "max_junk": "1000",
        "error_delay": "1"}
    with smtpd.session("E") as client:
        client.mail()
    assert len(spool.messages()) == 2
    assert len(smtpd.log(event="pressure")) == len(smtpd.log(event="pressure_over")) == 1


@pytest.fixture
def crowded(programs, spool):
    """smtpd under pressure, and those who press."""
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=LIMIT, SMTPD_ERROR_DELAY=30)
    clients = [smtpd.session("E") for _ in range(CROWD)]
    smtpd.wait_log(event="pressure")
    yield smtpd, clients
    for client in clients:
        client.close()


def test_one_mistake_is_forgiven(crowded):
    smtpd, _ = crowded
    with smtpd.session("E") as client:
        client.command("FOO", 500, "5.5.1")
        client.mail()
        start = time.monotonic()
        client.command("FOO", 421, "4.7.0")
        client.expect_close()
        assert time.monotonic() - start < 30, "replies are delayed"


def test_little_junk(crowded):
    smtpd, _ = crowded
    with smtpd.session("E") as client:
        client.send("NOOP\r\n" * 20)
        codes = []
        while not codes or codes[-1] != 421:
            codes.append(client.reply((250, 421)).code)
        assert 8 <= len(codes) <= 10


def test_it_is_over_below_three_quarters(crowded):
    smtpd, clients = crowded
    for _ in range(2):
        clients.pop().quit()
    time.sleep(0.3)
    assert not smtpd.log(event="pressure_over"), "12 of 16 are three quarters"
    clients.pop().quit()
    smtpd.wait_log(event="pressure_over")
    with smtpd.session("E") as client:
        for _ in range(5):
            client.command("FOO", 500, "5.5.1")


def test_who_is_still_there_when_it_is_over_is_left_alone(crowded):
    smtpd, clients = crowded
    for _ in range(3):
        clients.pop().quit()
    smtpd.wait_log(event="pressure_over")
    time.sleep(12)
    for client in clients:
        client.alive()


def test_tighter_settings_stay(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=LIMIT, SMTPD_TIMEOUT=4, SMTPD_MAX_JUNK=5,
                           SMTPD_MAX_ERRORS=1, SMTPD_MAX_TIME=20)
    clients = [smtpd.session("G") for _ in range(CROWD)]
    entry = smtpd.wait_log(event="pressure")
    assert numbers(entry) == {"timeout": "4", "max_time": "20", "max_errors": "1", "max_junk": "5",
                              "error_delay": "0"}
    for client in clients:
        client.reply(421, "4.4.2")
        client.close()


def test_too_few_places_for_pressure(programs, spool):
    """One of one is not a crowd."""
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=7)
    clients = [smtpd.session("E") for _ in range(7)]
    with smtp.Client(smtpd.address) as late:
        late.reply(421, "4.3.2")
    assert not smtpd.log(event="pressure")
    for client in clients:
        client.close()


def test_those_who_send_are_left_to_it(crowded, spool):
    """A message that makes progress is not cut off at the idle client's ten seconds."""
    smtpd, idle = crowded
    with smtpd.session("D") as client:
        start = time.monotonic()
        while time.monotonic() - start < 12:
            client.send(b"x" * 1000 + b"\r\n")
            time.sleep(0.2)
        client.content(b"")
        client.reply(250, "2.0.0")
    wait_for(lambda: all(client.readable() for client in idle), "the idle ones were told")
    assert len(spool.messages()) == 1
