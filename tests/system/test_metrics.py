"""What the programs count, with mail of every kind on its way through all of them: it is what the
manual page says, in the form that Prometheus wants, and the dashboard and the alerts are answered
from it by a real Prometheus."""

import contextlib
import datetime
import json
import math
import os
import re
import time

import pytest

import prometheus
import spool as spool_format
from cluster import ROOT
from deadline import wait_for
from prometheus import ALERTS, promtool
from smarthost import SmartHost
from smtp import Closed
from test_reaper import with_old_mail
from whole import POISON, REFUSE_POISON, Whole

PAGE = ROOT / "common" / "mayfly-metrics.5"
DASHBOARD = ROOT / "common" / "mayfly-dashboard.json"
RULES_TEST = ROOT / "tests" / "system" / "alerts.yml"
PROGRAMS = ("smtpd", "storer", "relay", "reaper")
NAME = re.compile(r"\bmayfly_[a-z_]+\b")
SELECTOR = re.compile(r"\bmayfly_[a-z_]+\b(?:\{[^}]*\})?")


# What is looked at

def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def queries():
    """Those of the dashboard, as Grafana asks them with every host chosen."""
    return [target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            for panel in panels() for target in panel.get("targets", [])]


def alerts():
    """{alert: its expression}, by promtool's own reading of the file."""
    found = re.findall(r"^      - alert: (\S+)\n        expr: (?:>-\n)?(.*?)"
                       r"^        (?:for|labels):", ALERTS.read_text(), re.M | re.S)
    return {name: " ".join(expression.split()) for name, expression in found}


def ago(**span):
    return spool_format.now() - datetime.timedelta(**span)


# The mail

def place_what_waits(spool):
    """What was there before the programs: in failed/, old and young, in cur/, and in new/."""
    spool.make()
    spool.relay.make()
    for queue in (spool, spool.relay):
        queue.put(into="failed")
        stale = queue.directory("failed") / queue.put(into="failed")
        os.utime(stale, (0, 0))
        (queue.directory("new") / "stranger").write_text("no message")
    later = spool.relay.directory("cur") / spool.relay.put(into="cur", received=ago(hours=2))
    os.utime(later, (time.time() + 1800,) * 2)
    expired = spool.put(received=ago(days=9))
    os.utime(spool.directory("new") / expired, (0, 0))


def send_all(smtpd, host, pair):
    host.at("RCPT", "450 4.2.1 later", like="later")
    host.at("RCPT", "550 5.1.1 no", like="never")
    with smtpd.session("E") as client:
        for recipients in (["b@stored.example", "c@stored.example"], ["b@t.example"],
                           ["b@stored.example", "b@t.example"], ["later@t.example"],
                           ["never@t.example"], ["b@discard.example"], [POISON]):
            client.mail(recipients=recipients, sender="a@stored.example")
        client.command("MAIL FROM:<x@spam.example>", 550)
        client.command("MAIL FROM:<x@c.example> SIZE=999999", 552)
        client.command("MAIL FROM:<x@c.example>", 250)
        client.command("RCPT TO:<nobody@stored.example>", 550)
        client.command("DATA", 554)
        client.command("HOOP", 500)
        client.quit()
    with smtpd.session("E", tls=pair.client()) as client:
        client.mail(recipients=["b@stored.example"])
    with smtpd.session("E") as client, contextlib.suppress(Closed):
        client.command("STARTTLS", 220)
        client.send_raw(b"no handshake\r\n" * 10)
        client.rest()


def asked(server):
    """What the server answers to all that is asked of it."""
    selectors = {selector for expression in alerts().values()
                 for selector in SELECTOR.findall(expression)}
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    return ({query: server.ask(query) for query in queries()},
            {selector: server.ask(selector) for selector in selectors}, rules)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def seen(module_programs, module_spool, session_cluster, metrics, pair):
    """{program: its file of metrics at the end}, and what Prometheus made of them."""
    session_cluster.start()
    database = session_cluster.create()
    database.query(REFUSE_POISON)
    with_old_mail(database, [9])
    place_what_waits(module_spool)
    with SmartHost() as host:
        whole = Whole(module_programs, module_spool, database, host, metrics, **pair.settings())
        with prometheus.Prometheus(metrics) as server:
            server.wait_for("count(mayfly_build_info) == 4", "all four are read")
            send_all(whole.smtpd, host, pair)
            wait_for(lambda: not module_spool.new() + module_spool.relay.new(), "all is tried")
            for line in ("mayfly_storer_failed_messages [1-9]",
                         "mayfly_relay_deferred_messages [1-9]"):
                wait_for(lambda: any(re.search(f"^{line}$", path.read_text(), re.M)
                                     for path in metrics.glob("*.prom")), "the queues are counted")
            whole.stop()
            server.wait_for(f"count(timestamp(mayfly_build_info) > {time.time()}) == 4",
                            "what they wrote at their end is read")
            answers = asked(server)
    database.drop()
    return {name: (metrics / f"{name}.prom").read_text() for name in PROGRAMS}, answers


@pytest.fixture(scope="module")
def written(seen):
    return seen[0]


@pytest.fixture(scope="module")
def values(written):
    """{(metric, its labels): value} of all programs."""
    return {key: value for text in written.values()
            for key, value in prometheus.samples(text).items()}


# What is written

def test_promtool_finds_nothing_wrong(written):
    for program, text in written.items():
        assert promtool("check", "metrics", text=text) == (0, ""), program
    spoilt = written["smtpd"].replace("messages_total", "messages")
    assert promtool("check", "metrics", text=spoilt)[0] != 0


def test_every_program_says_which_it_is(written, values):
    version = re.search(r"^VERSION *:= (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    for program in PROGRAMS:
        label = (("program", program),)
        assert values["mayfly_build_info", (*label, ("version", version))] == 1
        start = values["mayfly_start_timestamp_seconds", label]
        assert time.time() - 600 < start <= values["mayfly_written_timestamp_seconds", label] \
            <= time.time()
        own = {name for name in prometheus.types(written[program])
               if name not in ("mayfly_build_info", "mayfly_start_timestamp_seconds",
                               "mayfly_written_timestamp_seconds")}
        assert own and all(name.startswith(f"mayfly_{program}_") for name in own)


def test_the_manual_page_has_every_metric_with_its_type_and_labels(written):
    documented = {}
    for entry in re.finditer(r"^\.It Li (mayfly_\S+) Pq (\w+)((?: \w+)*)$", PAGE.read_text(), re.M):
        assert entry[1] not in documented, entry[0]
        documented[entry[1]] = (entry[2], frozenset(entry[3].split()))
    want = {}
    for text in written.values():
        of_program, kinds = prometheus.labels(text), prometheus.types(text)
        assert set(of_program) == set(kinds)
        for name, (own,) in of_program.items():
            want[name] = (kinds[name], own)
    assert documented == want


def want(values, metric, value, **labels):
    assert values[f"mayfly_{metric}", tuple(labels.items())] == value, (metric, labels)


def test_what_was_counted(values):
    """Each kind of mail that was sent, and what was there before."""
    want(values, "smtpd_connections_total", 3)
    want(values, "smtpd_connections", 0)
    want(values, "smtpd_messages_total", 7)
    want(values, "smtpd_discarded_total", 1)
    want(values, "smtpd_recipients_total", 5, queue="store")
    want(values, "smtpd_recipients_total", 4, queue="relay")
    want(values, "smtpd_tls_total", 1, result="ok")
    want(values, "smtpd_tls_total", 1, result="failed")
    want(values, "smtpd_refused_total", 1, reason="sender_refused")
    want(values, "smtpd_refused_total", 1, reason="recipient_refused")
    want(values, "smtpd_refused_total", 1, reason="too_big")
    want(values, "smtpd_commit_seconds_count", values["mayfly_smtpd_commit_messages_count", ()])
    want(values, "smtpd_commit_messages_sum", 8)   # with the one that was dropped
    # A notification that relay wrote is stored, too.
    want(values, "storer_messages_total", 4, result="stored")
    want(values, "storer_messages_total", 1, result="expired")
    want(values, "storer_messages_total", 1, result="refused")
    want(values, "storer_deliveries_total", 5)
    want(values, "storer_transaction_messages_count",
         values["mayfly_storer_transactions_total", ()])
    want(values, "relay_recipients_total", 2, result="accepted")
    want(values, "relay_recipients_total", 1, result="deferred")
    want(values, "relay_recipients_total", 1, result="failed")
    want(values, "reaper_passes_total", 1, result="done")
    want(values, "reaper_partitions", 30)
    want(values, "reaper_partitions_expired", 0)
    want(values, "reaper_partitions_dropped_total", 2)
    want(values, "reaper_swept_files_total", 1, directory="store/failed")
    want(values, "reaper_swept_files_total", 1, directory="relay/failed")
    want(values, "reaper_interval_seconds", 3600)
    want(values, "reaper_retention_seconds", 7 * 86400)


def test_what_lies_in_the_queues(values):
    """As it was when it was counted, which may be before or behind what became of the rest."""
    assert values["mayfly_storer_failed_messages", ()] in (1, 2, 3)
    assert values["mayfly_relay_failed_messages", ()] in (1, 2, 3)
    assert values["mayfly_relay_deferred_messages", ()] in (1, 2)
    assert 7200 <= values["mayfly_relay_deferred_age_seconds", ()] < 7800
    want(values, "storer_kept_messages", 0)
    assert values["mayfly_smtpd_spool_free_bytes", ()] > 0
    want(values, "smtpd_spool_min_free_bytes", 64 << 20)
    expiry = values["mayfly_smtpd_tls_certificate_expiry_timestamp_seconds", ()]
    assert abs(expiry - time.time() - 30 * 86400) < 3600


COMMANDS = [("EHLO c.example", "ehlo", "2xx"), ("EHLO", "other", "5xx"),
            ("MAIL FROM:<a@c.example>", "mail", "2xx"), ("MAIL FROM:<b@c.example>", "mail", "5xx"),
            ("RCPT TO:<b@stored.example>", "rcpt", "2xx"), ("RCPT TO:<x>", "rcpt", "5xx"),
            ("DATA", "data", "3xx"), (".", "content", "2xx"), ("DATA", "data", "5xx"),
            ("HELO c.example", "helo", "2xx"), ("RSET", "rset", "2xx"), ("NOOP", "noop", "2xx"),
            ("HELP", "help", "2xx"), ("VRFY b", "vrfy", "2xx"), ("STARTTLS", "starttls", "5xx"),
            ("EXPN b", "other", "5xx"), ("", "other", "5xx"), ("BDAT 0 LAST", "bdat", "5xx"),
            ("EHLO c.example", "ehlo", "2xx"), ("MAIL FROM:<a@c.example>", "mail", "2xx"),
            ("RCPT TO:<b@stored.example>", "rcpt", "2xx"), ("BDAT 0", "bdat", "2xx"),
            ("BDAT 0 LAST", "content", "2xx"), ("BDAT x", "bdat", "5xx")]


def test_each_command_is_counted_by_its_verb_and_its_reply(programs, spool, tmp_path):
    file = tmp_path / "commands.prom"
    smtpd = programs.smtpd(spool, METRICS_FILE=file, SMTPD_DOMAINS="stored.example")
    with smtpd.session() as client:
        for line, _, answer in COMMANDS:
            assert client.command(line).code // 100 == int(answer[0]), line
    smtpd.stop()
    expected = {}
    for _, *key in COMMANDS:
        expected[tuple(key)] = expected.get(tuple(key), 0) + 1
    found = {tuple(dict(labels).values()): value for (name, labels), value
             in prometheus.samples(file.read_text()).items()
             if name == "mayfly_smtpd_commands_total"}
    assert {key: value for key, value in found.items() if value} == expected
    assert len(found) == 14 * 3


def test_two_of_a_program_are_told_apart_by_their_service(programs, spool, tmp_path):
    for service in ("smtpd-1", "smtpd-2"):
        programs.smtpd(spool, METRICS_FILE=tmp_path / service, METRICS_SERVICE=service).stop()
    text = "".join((tmp_path / service).read_text() for service in ("smtpd-1", "smtpd-2"))
    for own in prometheus.labels(text).values():
        assert all("service" in names for names in own)
    assert promtool("check", "metrics", text=(tmp_path / "smtpd-1").read_text()) == (0, "")


@pytest.mark.parametrize("name", ['smtpd"', "smtpd\\", "smtp\u00e9", "smtpd\n"])
def test_a_service_whose_name_would_spoil_the_file_is_refused(programs, name):
    done = programs.run("smtpd", "--check", METRICS_SERVICE=name)
    assert done.returncode == 78 and "setting=METRICS_SERVICE" in done.stderr


# The dashboard and the alerts

def test_the_dashboard_is_one():
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Programs", "smtpd", "Spool", "storer", "relay", "reaper"]
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        place = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not place & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= place
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"] and panel["title"]
            for target in panel["targets"]:
                selectors = SELECTOR.findall(target["expr"])
                assert selectors and all('instance=~"$instance"' in one for one in selectors)


def test_what_is_asked_for_is_written(written):
    known = {name for text in written.values() for name in prometheus.types(text)}
    for expression in [*queries(), *alerts().values()]:
        names = {prometheus.PARTS.sub("", name) for name in NAME.findall(expression)}
        assert names and names <= known, expression


def test_prometheus_answers_every_query_of_the_dashboard(seen):
    answers, _, _ = seen[1]
    assert len(answers) > 60
    for query, series in answers.items():
        assert series, query
        for own, value in series:
            assert not math.isnan(value), (query, own)


def test_prometheus_takes_every_alert_and_has_what_each_is_about(seen):
    _, answers, rules = seen[1]
    assert {rule["name"] for rule in rules} == set(alerts()) and len(rules) >= 20
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    for selector, series in answers.items():
        assert series, selector


def test_the_alerts_are_raised_when_they_should():
    """alerts.yml has, for each, a time when it is raised, in words, and one when it is not."""
    assert promtool("check", "rules", ALERTS)[0] == 0
    code, said = promtool("test", "rules", RULES_TEST)
    assert code == 0, said
    text = RULES_TEST.read_text()
    for name in alerts():
        cases = re.findall(rf"alertname: {name}, exp_alerts: \[(.?)", text) \
            + re.findall(rf"alertname: {name}\n        exp_alerts:\n(.)", text)
        assert "]" in cases, f"{name} is never seen silent"
        assert any(case != "]" for case in cases), f"{name} is never seen raised"
