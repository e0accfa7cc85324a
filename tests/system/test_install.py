"""What an operator gets: `make install`, the service directories under runit and s6, the lists in the
README.
"""

import os
import pathlib
import random
import re
import shutil
import socket
import subprocess

import pytest

from cluster import ROOT, free_port, short_directory
from deadline import wait_for
from programs import BUILD, sanitized
from test_run import build_options, user_group

SERVICES = ["smtpd", "storer", "reaper", "relay"]
PROGRAMS = [*SERVICES, "queue"]
AS_ROOT = os.geteuid() == 0


def make(*arguments):
    done = subprocess.run(["make", *build_options(), f"BUILD={BUILD}", *arguments], cwd=ROOT,
                          env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
    return done.stdout


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.fixture
def scratch():
    directory = short_directory("mayfly-install-")
    yield directory
    shutil.rmtree(directory)


def test_install_puts_everything_under_the_prefix_and_uninstall_removes_it(scratch):
    make("install", f"DESTDIR={scratch}", "PREFIX=/opt/mail")
    found = files(scratch)
    share = "opt/mail/share"
    for program in PROGRAMS:
        assert f"opt/mail/sbin/mayfly-{program}" in found
        assert f"{share}/man/man8/mayfly-{program}.8" in found
    assert f"{share}/bash-completion/completions/mayfly-queue" in found
    assert {"opt/mail/sbin/mayfly-setup", f"{share}/man/man8/mayfly-setup.8"} <= found
    for program in SERVICES:
        service = f"{share}/mayfly/service/mayfly-{program}"
        assert {f"{service}/{name}" for name in ("run", "check", "log/run", "notification-fd", "user", "env/SPOOL")} \
            <= found
        run = (scratch / service / "run").read_text()
        assert f"\nexec \"$@\" /opt/mail/sbin/mayfly-{program}\n" in run and "@" not in run.replace('"$@"', "")
        assert os.access(scratch / service / "run", os.X_OK)
    assert {f"{share}/mayfly/sql/schema.sql", f"{share}/mayfly/mayfly-dashboard.json",
            f"{share}/mayfly/mayfly-alerts.yml", f"{share}/man/man5/mayfly-metrics.5"} <= found
    assert all(name.startswith("opt/mail/") for name in found)

    make("uninstall", f"DESTDIR={scratch}", "PREFIX=/opt/mail")
    assert files(scratch) == set()


def test_install_goes_to_usr_local_by_itself(scratch):
    make("install", f"DESTDIR={scratch}")
    version = subprocess.check_output([scratch / "usr/local/sbin/mayfly-smtpd", "--version"], text=True)
    assert re.fullmatch(r"mayfly-smtpd \d+\.\d+\.\d+\n", version)


# The packages

@pytest.fixture
def packages(scratch):
    """Runs packages.sh with a list of its own, where nothing can be installed."""
    tools = scratch / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "grep", "id"):
        (tools / tool).symlink_to(shutil.which(tool))
    shutil.copy(ROOT / "common/packages.sh", scratch)
    (scratch / "packages.txt").write_text("# need package witness reason\n"
                                          "run   present /bin/sh               is here\n"
                                          "run   absent  /nowhere/a|/nowhere/b makes coffee\n"
                                          "test  other   /nowhere/c            is for tests\n"
                                          "lint  local   /nowhere/c|/bin/*sh   is elsewhere\n")

    def run(*arguments):
        return subprocess.run([scratch / "packages.sh", *arguments], env={"PATH": str(tools)},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run


def test_what_is_missing_is_named_with_its_reason(packages):
    for action in ("check", "install"):
        named = packages(action, "run", "lint")
        assert named.returncode == 1
        assert re.search("^ +absent +makes coffee$", named.stdout, re.MULTILINE)
        assert not re.search("present|other|local", named.stdout)
    assert f"    by: {'' if AS_ROOT else 'sudo '}apt-get install --no-install-recommends absent\n" in named.stdout
    assert "There is no apt-get here" in named.stdout


def test_nothing_is_done_when_nothing_is_missing(packages):
    done = packages("install", "lint")
    assert (done.returncode, done.stdout) == (0, "")


# The service directories

def low_port():
    """A port that only a capability opens; any, since this suite may run twice at once."""
    for port in random.sample(range(600, 1024), 424):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no free port below 1024")


def install_service(scratch, program):
    """A program's service directory as installed, with a spool of its own; as root it runs as another
    user."""
    make("install", f"PREFIX={scratch}/installed", "DESTDIR=")
    directory = scratch / "service" / program
    shutil.copytree(scratch / f"installed/share/mayfly/service/mayfly-{program}", directory)
    spool = scratch / "spool"
    spool.mkdir()
    if AS_ROOT:
        (directory / "user").write_text("nobody\n")
        shutil.chown(spool, "nobody", user_group("nobody"))
    else:
        (directory / "user").unlink()
    (directory / "env/SPOOL").write_text(f"{spool}\n")
    if sanitized():
        # LeakSanitizer stops the threads at the end by SIGSTOP, and waits for ever where the SIGCONT
        # that runsv sends with every SIGTERM takes that back.
        (directory / "env/ASAN_OPTIONS").write_text("detect_leaks=0\n")
    return directory


@pytest.fixture
def service(scratch):
    """smtpd's service directory, with the settings of a host of its own; as root it listens on a port
    below 1024."""
    directory = install_service(scratch, "smtpd")
    port = low_port() if AS_ROOT else free_port()
    (directory / "env/SMTPD_LISTEN").write_text(f"127.0.0.1:{port}\n")
    return directory, port


def greeting(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(512)


def program_of(directory, name="smtpd"):
    """The pid of the installed program, found by the file it runs."""
    wanted = str(directory.parents[1] / f"installed/sbin/mayfly-{name}")
    for path in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            if os.readlink(path) == wanted:
                return int(path.parent.name)
        except OSError:
            continue
    return None


def check_running(directory, port):
    assert greeting(port).startswith(b"220 ")
    pid = program_of(directory)
    if AS_ROOT:
        assert pathlib.Path(f"/proc/{pid}").owner() == "nobody"
    log = directory / "log/main/current"
    wait_for(lambda: log.exists() and "event=ready" in log.read_text(), "the log says that smtpd is ready")


def test_the_service_directory_serves_runit(service):
    directory, port = service
    supervisor = subprocess.Popen(["runsv", str(directory)], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        wait_for((directory / "supervise/ok").exists, "runsv supervises smtpd")
        subprocess.run(["sv", "-w", "60", "start", str(directory)], check=True, timeout=90)
        check_running(directory, port)
    finally:
        supervisor.terminate()
        supervisor.wait(30)
    assert program_of(directory) is None


def test_the_service_directory_serves_s6(service):
    directory, port = service
    supervisor = subprocess.Popen(["s6-svscan", str(directory.parent)], start_new_session=True,
                                  stdin=subprocess.DEVNULL, env={"PATH": without_runit(directory.parents[1])})
    try:
        wait_for(lambda: (directory / "supervise/status").exists(), "s6 supervises smtpd")
        subprocess.run(["s6-svwait", "-U", "-t", "60000", str(directory)], check=True, timeout=90)
        check_running(directory, port)
    finally:
        supervisor.terminate()
        supervisor.wait(30)
    assert program_of(directory) is None


def without_runit(scratch):
    """A PATH on which runit is not installed."""
    tools = scratch / "tools"
    tools.mkdir()
    for directory in ("/bin", "/usr/bin", "/usr/sbin"):
        for tool in pathlib.Path(directory).iterdir():
            if tool.name not in ("chpst", "svlogd", "runsv", "sv") and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    return str(tools)


# What is documented

def test_help_lists_the_targets():
    listed = re.findall(r"^make ([a-z-]+)", make("help"), re.MULTILINE)
    assert {"all", "run", "clean-run", "test", "install", "uninstall", "schema", "help", "clean"} <= set(listed)


def settings_of_program(program):
    """(default, meaning) of each setting, as the program's table has them."""
    option = "--help" if program == "queue" else "--settings"
    text = subprocess.check_output([BUILD / program, option], text=True)
    return {name: (default, meaning) for name, default, meaning
            in re.findall(r"^  ([A-Z_]+) \[(.*)\]\n      (.*)$", text, re.MULTILINE)}


def settings_of_page(page):
    """The same, as a manual page has them; of a meaning what comes before the next request."""
    return {name: (default, " ".join(meaning.split())) for name, default, meaning
            in re.findall(r"^\.It Ev ([A-Z_]+) Bq (?:\\&)?(.*)\n((?:[^.\n].*\n)*)", page.read_text(),
                          re.MULTILINE)}


def check_documented(documented):
    """That it is every setting of the services with its default and meaning, and no other."""
    want = {}
    for program in SERVICES:
        want.update(settings_of_program(program))
    assert documented == want


def test_the_readme_has_every_setting_with_its_default_and_no_other():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    documented = {name: (default.strip("`"), meaning) for name, default, meaning in rows}
    assert len(rows) == len(documented)
    check_documented(documented)


def test_one_manual_page_has_every_setting_with_its_default_and_no_other():
    check_documented(settings_of_page(ROOT / "common/mayfly-settings.5"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_page_has_every_setting_with_its_default_and_no_other(program):
    """Its words may be others: what the setting is to this program."""
    page = ROOT / ("queue/mayfly-queue.8" if program == "queue" else f"{program}/{program}.8")
    assert {name: default for name, (default, _) in settings_of_page(page).items()} \
        == {name: default for name, (default, _) in settings_of_program(program).items()}


# What `--help` is for is the one screen that everybody has.
LINES, COLUMNS = 24, 80


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_fits_a_screen(program):
    """Of an ordinary terminal: with the prompt behind it, and nothing scrolls away."""
    lines = subprocess.check_output([BUILD / program, "--help"], text=True).splitlines()
    assert len(lines) < LINES and max(map(len, lines)) < COLUMNS, lines
    shown = re.findall(r"  ([A-Z_]+) \[(.*?)\](?: |$)", "\n".join(lines), re.MULTILINE)
    assert dict(shown) == {name: default for name, (default, _) in settings_of_program(program).items()}
