"""The tree is the architecture: what may include what, what a program is linked with, and what lies
where."""

import os
import re
import shutil
import subprocess

import pytest

from cluster import ROOT
from programs import BUILD

SERVICES = ["smtpd", "storer", "reaper", "relay"]
PROGRAMS = [*SERVICES, "queue"]
FOLDERS = ["common", "queue", "queue/tool", *SERVICES]
TOP = {"Makefile", "README.md", "LICENSE", "sql", "tests", "common", "queue", *SERVICES}

# The tool is queue/main.c and queue/tool: what is shared knows nothing of it.
MAY_INCLUDE = {"common": {"common"}, "queue": {"common", "queue"},
               "queue/tool": {"common", "queue", "queue/tool"},
               **{name: {"common", "queue", name} for name in SERVICES}}
TOOL = [*(ROOT / "queue/tool").glob("*.[ch]"), ROOT / "queue/main.c"]
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

# Beyond the C library. A sanitized build adds its own.
LIBRARIES = {"smtpd": {"libuv", "libssl", "libcrypto", "libseccomp"},
             "storer": {"libuv", "libpq"}, "reaper": {"libuv", "libpq"},
             "relay": {"libuv", "libcurl"}, "queue": {"libpq", "libjansson"}}
NOT_OURS = {"libc", "libm", "libgcc_s", "libasan", "libubsan", "ld-linux-x86-64",
            "ld-linux-aarch64"}


def tracked():
    """The files that belong to the project."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files"], cwd=ROOT,
                                capture_output=True, text=True)
        if listed.returncode == 0:
            return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    return [path for path in ROOT.rglob("*") if path.is_file() and "build" not in path.parts]


def sources(folder):
    return sorted((ROOT / folder).glob("*.[ch]"))


def includes(path):
    """(quote, name) of every include."""
    return INCLUDE.findall(path.read_text())


def test_nothing_strange_at_the_top():
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} <= TOP


@pytest.mark.parametrize("folder", FOLDERS)
def test_include_directions(folder):
    assert sources(folder)
    for path in sources(folder):
        for quote, name in includes(path):
            if quote == '"':
                assert "/" in name, f"{path}: {name} does not name its folder"
                allowed = MAY_INCLUDE["queue/tool" if path in TOOL else folder]
                assert name.rpartition("/")[0] in allowed, f"{path} includes {name}"
                assert (ROOT / name).is_file(), f"{path} includes {name}"
            else:
                assert name.split("/")[0] not in FOLDERS, f"{path} includes <{name}>"


@pytest.mark.parametrize("folder", FOLDERS)
def test_own_header_first(folder):
    for path in sources(folder):
        header = path.with_suffix(".h")
        if path.suffix == ".c" and header.exists():
            assert includes(path)[0] == ('"', f"{folder}/{header.name}"), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_headers_stand_alone(folder):
    """Every header compiles by itself."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no compiler")
    postgresql = "/usr/include/postgresql"
    if shutil.which("pg_config"):
        postgresql = subprocess.check_output(["pg_config", "--includedir"], text=True).strip()
    text = "".join(f'#include "{folder}/{path.name}"\n' for path in sources(folder)
                   if path.suffix == ".h")
    for line in text.splitlines():
        done = subprocess.run(
            [compiler, "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
             "-I.", f"-I{postgresql}", "-xc", "-"],
            cwd=ROOT, input=line + "\n", capture_output=True, text=True)
        assert done.returncode == 0, line + done.stderr


def test_the_event_loop_and_the_database_stay_where_they_belong():
    for folder in FOLDERS:
        for path in sources(folder):
            names = {name for _, name in includes(path)}
            if folder == "queue" and path.stem not in ("watcher", "census"):
                assert not names & {"uv.h", "libpq-fe.h"}, f"{path}: queue/ is blocking POSIX"
            if path in TOOL:
                assert "uv.h" not in names, f"{path}: the tool has no loop"
                assert "libpq-fe.h" not in names or path.stem == "database", f"{path}: no database"
            else:
                assert "jansson.h" not in names, f"{path}: JSON is the tool's"
            if folder in ("smtpd", "relay"):
                database = {"libpq-fe.h", "common/pgconn.h", "common/pgwords.h"}
                assert not names & database, f"{path}: no database here"


@pytest.mark.parametrize("name", PROGRAMS)
def test_link_line_is_the_list_of_dependencies(name):
    dynamic = subprocess.check_output(["readelf", "-d", BUILD / name], text=True)
    needed = set(re.findall(r"\(NEEDED\).*\[([^\]]+?)\.so", dynamic))
    assert needed - NOT_OURS == LIBRARIES[name]


@pytest.mark.parametrize("name", PROGRAMS)
def test_hardened(name):
    header = subprocess.check_output(["readelf", "-hldW", BUILD / name], text=True)
    assert re.search(r"Type:\s+DYN", header), "position independent"
    assert "GNU_RELRO" in header and "BIND_NOW" in header
    assert re.search(r"GNU_STACK .* RW ", header), "no executable stack"


@pytest.mark.parametrize("name", PROGRAMS)
def test_man_page(name):
    page = ROOT / ("queue/mayfly-queue.8" if name == "queue" else f"{name}/{name}.8")
    assert page.is_file()
    text = page.read_text()
    for setting in settings(name):
        assert setting in text, f"{setting} is not in {page.name}"


def settings(name):
    option = "--help" if name == "queue" else "--settings"
    shown = subprocess.run([BUILD / name, option], capture_output=True, text=True, check=True)
    return re.findall(r"^  ([A-Z_]+) \[", shown.stdout, re.M)


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc")
def test_man_pages_are_well_formed():
    pages = [path for path in tracked() if path.suffix in (".5", ".8")]
    assert pages
    for page in pages:
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", page], capture_output=True,
                              text=True)
        # Which other pages there are is the machine's affair.
        found = [line for line in done.stdout.splitlines()
                 if "STYLE: referenced manual not found: " not in line]
        assert found == [], page
