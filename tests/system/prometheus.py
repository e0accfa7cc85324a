"""Prometheus, and promtool, which reads metrics and rules for mistakes: unpacked, not installed
(unpacked.py), for Debian's package starts a server."""

import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request

import unpacked
from cluster import ROOT, short_directory
from deadline import wait_for
from postfix import listens, on_a_free_port

ALERTS = ROOT / "common" / "mayfly-alerts.yml"

# A file of metrics is to Prometheus what node_exporter makes of it: a series has the instance of
# its host, whichever file it is from.
CONFIG = """
global: {{scrape_interval: 300ms, evaluation_interval: 300ms}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: node
    static_configs:
{targets}
"""
TARGET = ("      - {{targets: ['127.0.0.1:{port}'], "
          "labels: {{__metrics_path__: /{name}, instance: {instance}}}}}\n")
INSTANCE = "mail.example"

SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
PARTS = re.compile(r"_(bucket|sum|count)$")


def program(name):
    return str(unpacked.tree("prometheus", "usr/bin/promtool") / "usr" / "bin" / name)


def promtool(*arguments, text=None):
    """Its exit code and what it says."""
    done = subprocess.run([program("promtool"), *map(str, arguments)], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout


def types(text):
    """{metric: its type} of a file of metrics."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def samples(text):
    """{(metric, ((label, value), …)): value}; the parts of a histogram under their own names."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            key = (match["name"], tuple(LABEL.findall(match["labels"] or "")))
            assert key not in found, line
            found[key] = float(match["value"])
    return found


def labels(text):
    """{metric: {set of the names of a sample's labels, but for a histogram's own}}"""
    kinds, found = types(text), {}
    for name, own in samples(text):
        whole = PARTS.sub("", name)
        metric = whole if kinds.get(whole) == "histogram" else name
        found.setdefault(metric, set()).add(frozenset(label for label, _ in own) - {"le"})
    return found


class Files(http.server.SimpleHTTPRequestHandler):
    """As text of Prometheus."""

    extensions_map = {"": "text/plain; version=0.0.4"}

    def log_message(self, *_):
        pass


class Prometheus:
    """A server that reads all files of a directory, and has the alerts for rules."""

    def __init__(self, directory):
        self.source = directory
        self.directory = short_directory("mayfly-prometheus-")

    def _configure(self, port):
        targets = "".join(TARGET.format(port=port, name=path.name, instance=INSTANCE)
                          for path in sorted(self.source.iterdir()))
        config = self.directory / "prometheus.yml"
        config.write_text(CONFIG.format(alerts=ALERTS, targets=targets))
        return config

    def _start(self, port):
        return subprocess.Popen(
            [program("prometheus"), f"--config.file={self.config}", "--log.level=error",
             f"--web.listen-address=127.0.0.1:{port}",
             f"--storage.tsdb.path={self.directory}/data"],
            cwd=self.directory, env={"GOMAXPROCS": "1"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(self.directory / "log", "wb"),
            start_new_session=True)

    def __enter__(self):
        def handler(*arguments):
            return Files(*arguments, directory=str(self.source))

        self.files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.files.serve_forever, daemon=True).start()
        self.config = self._configure(self.files.server_address[1])
        self.process, self.port = on_a_free_port(self._start, listens)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.files.shutdown()
        self.files.server_close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def ask(self, query):
        """What a query answers now: [({label: value}, number)]"""
        return [(series["metric"], float(series["value"][1]))
                for series in self.get("query", query=query)["result"]]

    def wait_for(self, query, what):
        """Until a query has an answer."""
        def answered():
            try:
                return self.ask(query)
            except OSError:
                return None   # it is not yet ready

        wait_for(answered, what)
