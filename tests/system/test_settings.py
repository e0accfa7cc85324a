"""Settings of every program: what is right is shown, what is wrong is named, secrets stay
secret."""

import re

import pytest

SERVICES = ["smtpd", "storer", "reaper", "relay"]
PROGRAMS = [*SERVICES, "queue"]
DATABASE = ["storer", "reaper", "queue"]
EX_USAGE, EX_CONFIG = 64, 78


def values(text):
    """What --check printed, as a dict."""
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def check(programs, name="smtpd", **settings):
    """--check of good settings, as a dict."""
    done = programs.run(name, "--check", **settings)
    assert done.returncode == 0, done.stderr
    return values(done.stdout)


WRONG = [
    ("smtpd", "SMTPD_MAX_SIZE", "many", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_SIZE", "0", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_SIZE", "268435457", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_SIZE", "-1", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_SIZE", "1k", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_SIZE", "99999999999999999999", "from 1 to 268435456"),
    ("smtpd", "SMTPD_MAX_RECIPIENTS", "0", "whole number"),
    ("smtpd", "SMTPD_TIMEOUT", "0", "whole number"),
    ("smtpd", "SMTPD_TIMEOUT", "5 minutes", "whole number"),
    ("smtpd", "PORT", "smtp", "from 1 to 65535"),
    ("smtpd", "PORT", "65536", "from 1 to 65535"),
    ("smtpd", "SMTPD_LISTEN", "nonsense", "port"),
    ("smtpd", "SMTPD_LISTEN", "127.0.0.1", "port"),
    ("smtpd", "SMTPD_LISTEN", "127.0.0.1:70000", "port"),
    ("smtpd", "SMTPD_LISTEN", "::1:25", "port"),
    ("smtpd", "SMTPD_LISTEN", "127.0.1:25", "port"),
    ("smtpd", "SMTPD_LISTEN", "localhost", "port"),
    ("smtpd", "SMTPD_LISTEN", "localhost:smtp", "port"),
    ("smtpd", "SMTPD_LISTEN", "local host:25", "port"),
    ("smtpd", "SMTPD_LISTEN", "[127.0.0.1]:25", "port"),
    ("smtpd", "SMTPD_DOMAINS", "t.example,not a domain", "domain"),
    ("smtpd", "SMTPD_DOMAINS", "@/nonexistent/domains", "readable file"),
    ("smtpd", "SMTPD_REJECT_RECIPIENTS", "nobody", "user@"),
    ("smtpd", "SMTPD_REJECT_SENDERS", "a@spam.example", "domain"),
    ("smtpd", "SMTPD_DISCARD_DOMAINS", "@/nonexistent/domains", "readable file"),
    ("smtpd", "SMTPD_RELAY_CLIENTS", "127.0.0.1/8", "no bit set behind the prefix"),
    ("smtpd", "SMTPD_RELAY_CLIENTS", "localhost", "addresses and networks"),
    ("smtpd", "SMTPD_RELAY_CLIENTS", "*", "addresses and networks"),
    ("smtpd", "SMTPD_RELAY_CLIENTS", "@/nonexistent/networks", "readable file"),
    ("smtpd", "SMTPD_RELAY_DOMAINS", "far.example,not a domain", "domain"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "192.0.2.0/33", "addresses and networks"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "2001:db8::/129", "addresses and networks"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "192.0.2.1,192.0.2.1/24", "no bit set behind the prefix"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "lb.example", "addresses and networks"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "*", "addresses and networks"),
    ("smtpd", "SMTPD_PROXY_CLIENTS", "@/nonexistent/networks", "readable file"),
    ("smtpd", "SMTPD_TLS_CERT", "/etc/mayfly/cert.pem", "together with SMTPD_TLS_KEY"),
    ("smtpd", "SMTPD_TLS_KEY", "/etc/mayfly/key.pem", "together with SMTPD_TLS_CERT"),
    ("smtpd", "SMTPD_REQUIRE_TLS", "1", "unless SMTPD_TLS_CERT and SMTPD_TLS_KEY"),
    ("smtpd", "SMTPD_REQUIRE_TLS", "yes", "0 or 1"),
    ("smtpd", "SMTPD_HOSTNAME", "not a name", "name"),
    ("smtpd", "SMTPD_HOSTNAME", "[192.0.2]", "in brackets"),
    *((name, "LOG_LEVEL", "loud", "error, warn, info, debug") for name in SERVICES),
    *((name, "READY_FD", "999", "descriptor") for name in SERVICES),
    *((name, "READY_FD", "x", "whole number") for name in SERVICES),
    ("storer", "STORER_RESCAN", "0", "whole number"),
    ("storer", "STORER_NOTIFY", "yes", "0 or 1"),
    ("storer", "STORER_BATCH_MESSAGES", "0", "whole number"),
    ("reaper", "REAPER_INTERVAL", "0", "whole number"),
    ("reaper", "REAPER_RETENTION", "0", "whole number"),
    ("reaper", "REAPER_RETENTION", "-604800", "whole number"),
    ("reaper", "REAPER_RETENTION", "3153600000", "whole number"),
    ("relay", "SMTPD_DOMAINS", "t.example,not a domain", "domain"),
    ("relay", "SMTPD_RELAY_DOMAINS", "@/nonexistent/domains", "readable file"),
    ("relay", "RELAY_HOST", "not a host", "IPv4 address"),
    ("relay", "RELAY_HOST", "smtp.example:587", "IPv4 address"),
    ("relay", "RELAY_PORT", "0", "from 1 to 65535"),
    ("relay", "RELAY_PORT", "submission", "from 1 to 65535"),
    ("relay", "RELAY_TLS", "ssl", "starttls, implicit, none"),
    ("relay", "RELAY_CA", "/nonexistent/ca.pem", "can read"),
    ("relay", "RELAY_USER", "me", "exactly one of RELAY_PASSWORD"),
    ("relay", "RELAY_PASSWORD_FILE", "/etc/passwd", "together with RELAY_USER"),
    ("relay", "RELAY_TOKEN_FILE", "/etc/passwd", "together with RELAY_USER"),
    ("relay", "RELAY_CONNECTIONS", "0", "from 1 to 100"),
    ("relay", "RELAY_MAX_AGE", "0", "whole number"),
    ("relay", "RELAY_TIMEOUT", "3601", "from 1 to 3600"),
    ("relay", "RELAY_RESCAN", "0", "whole number"),
]


@pytest.mark.parametrize("argument", [(), ("--check",)], ids=["start", "check"])
@pytest.mark.parametrize("name, setting, value, expected", WRONG)
def test_wrong_value(programs, spool, name, setting, value, expected, argument):
    done = programs.run(name, *argument, SPOOL=spool, **{setting: value})
    assert done.returncode == EX_CONFIG, done
    assert setting in done.stderr and value in done.stderr, done.stderr
    assert "expected=" in done.stderr and expected in done.stderr, done.stderr
    assert not spool.path.exists()


def test_name_without_an_address(programs, spool):
    done = programs.run("smtpd", SPOOL=spool, SMTPD_LISTEN="127.0.0.1:0,nobody.invalid:2525",
                        RES_OPTIONS="timeout:1 attempts:1")
    assert done.returncode == EX_CONFIG
    assert "nobody.invalid:2525" in done.stderr and "name has an address" in done.stderr


def test_hostname_is_ascii(programs, spool):
    done = programs.run("smtpd", SPOOL=spool, SMTPD_HOSTNAME="\u00e9.example")
    assert done.returncode == EX_CONFIG
    assert "SMTPD_HOSTNAME" in done.stderr and "ASCII" in done.stderr


@pytest.mark.parametrize("name", ["xn--9ca.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_hostname(programs, name):
    assert check(programs, SMTPD_HOSTNAME=name)["SMTPD_HOSTNAME"] == name


@pytest.mark.parametrize("networks", [
    "192.0.2.0/24, 198.51.100.7,2001:db8::/32", "::1,::ffff:192.0.2.0/120", "0.0.0.0/0,::/0", ""])
@pytest.mark.parametrize("setting", ["SMTPD_PROXY_CLIENTS", "SMTPD_RELAY_CLIENTS"])
def test_networks(programs, setting, networks):
    check(programs, **{setting: networks})


def test_every_wrong_value_is_named(programs, spool):
    done = programs.run("smtpd", SPOOL=spool, SMTPD_MAX_SIZE="x", SMTPD_TIMEOUT="y", LOG_LEVEL="z")
    assert done.returncode == EX_CONFIG
    for setting in ("SMTPD_MAX_SIZE", "SMTPD_TIMEOUT", "LOG_LEVEL"):
        assert setting in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_names_every_setting(programs, name):
    done = programs.run(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: ")
    for setting in check(programs, name):
        assert re.search(rf"(^|\s){setting} \[", done.stdout, re.M), setting


@pytest.mark.parametrize("name", PROGRAMS)
def test_version(programs, name):
    done = programs.run(name, "--version")
    assert done.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+\b", done.stdout), done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("arguments", [("--nonsense",), ("start",), ("--check", "more")])
def test_usage_error(programs, name, arguments):
    done = programs.run(name, *arguments)
    assert done.returncode == EX_USAGE
    assert "usage" in done.stderr.lower()


def test_check_shows_what_is_in_force(programs):
    shown = check(programs, SMTPD_MAX_SIZE="1000", SMTPD_DOMAINS="a.example, b.example")
    assert shown["SMTPD_MAX_SIZE"] == "1000"
    assert "a.example" in shown["SMTPD_DOMAINS"] and "b.example" in shown["SMTPD_DOMAINS"]
    assert shown["SMTPD_TIMEOUT"] == "300" and shown["SMTPD_LISTEN"] == "127.0.0.1:2525"


def test_check_changes_nothing(programs, spool):
    check(programs, SPOOL=spool)
    assert not spool.path.exists()


@pytest.mark.parametrize("name", DATABASE)
@pytest.mark.parametrize("url", [
    "postgresql://mayfly:hunter2secret@db.example/mail",
    "postgresql://db.example/mail?user=mayfly&password=hunter2secret",
    "host=db.example user=mayfly password=hunter2secret dbname=mail",
    "host=db.example password = 'hunter2secret' dbname=mail",
])
def test_check_masks_passwords(programs, name, url):
    done = programs.run(name, "--check", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert "db.example" in done.stdout and "DATABASE_URL" in done.stdout
    assert "hunter2secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["storer", "reaper"])
def test_wrong_connection_string_is_named_and_masked(programs, name):
    done = programs.run(name, DATABASE_URL="host=db.example password=hunter2secret nonsense=")
    assert done.returncode == EX_CONFIG
    assert "DATABASE_URL" in done.stderr and "connection string" in done.stderr
    assert "hunter2secret" not in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_other_program_knows_a_database(programs, name):
    assert ("DATABASE_URL" in programs.run(name, "--help").stdout) == (name in DATABASE)


LOGIN = {"RELAY_USER": "me", "RELAY_PASSWORD": "hunter2secret"}


def test_check_masks_the_password_of_the_smarthost(programs):
    done = programs.run("relay", "--check", **LOGIN)
    assert done.returncode == 0 and values(done.stdout)["RELAY_USER"] == "me"
    assert "RELAY_PASSWORD" in done.stdout and "hunter2secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("more, named", [
    ({"RELAY_TLS": "none"}, "RELAY_TLS"),  # it would be said in the clear
    ({"RELAY_PASSWORD_FILE": "/etc/passwd"}, "RELAY_USER"),
    ({"RELAY_TOKEN_FILE": "/etc/passwd"}, "RELAY_USER"),
    ({"RELAY_USER": None}, "RELAY_PASSWORD"),
])
def test_one_login_that_is_encrypted_or_none(programs, spool, more, named):
    done = programs.run("relay", SPOOL=spool, **(LOGIN | more))
    assert done.returncode == EX_CONFIG
    assert f"setting={named} " in done.stderr and "hunter2secret" not in done.stderr
    assert not spool.path.exists()


def test_dotenv(programs, tmp_path):
    (tmp_path / ".env").write_text(
        "# a comment\n\nSMTPD_MAX_SIZE=1234\nexport SMTPD_TIMEOUT=99\n"
        "SMTPD_HOSTNAME=\"quoted.example\"\nSMTPD_MAX_RECIPIENTS = 7\nSMTPD_MAX_JUNK=1\n")
    done = programs.run("smtpd", "--check", cwd=tmp_path, SMTPD_MAX_JUNK="500")
    assert done.returncode == 0, done.stderr
    shown = values(done.stdout)
    assert shown["SMTPD_MAX_SIZE"] == "1234"
    assert shown["SMTPD_TIMEOUT"] == "99"
    assert shown["SMTPD_HOSTNAME"] == "quoted.example"
    assert shown["SMTPD_MAX_RECIPIENTS"] == "7"
    assert shown["SMTPD_MAX_JUNK"] == "500", "the environment comes before .env"


def test_dotenv_with_a_wrong_value(programs, tmp_path):
    (tmp_path / ".env").write_text("SMTPD_MAX_SIZE=huge\n")
    done = programs.run("smtpd", cwd=tmp_path)
    assert done.returncode == EX_CONFIG
    assert "SMTPD_MAX_SIZE" in done.stderr and "huge" in done.stderr


def test_list_in_a_file(programs, tmp_path):
    path = tmp_path / "domains"
    path.write_text("# ours\na.example\n\n b.example , .c.example # and below\n")
    shown = check(programs, SMTPD_DOMAINS=f"@{path}")["SMTPD_DOMAINS"]
    assert str(path) in shown or ("a.example" in shown and ".c.example" in shown)


def test_typing_error_in_a_name_is_warned_of(programs):
    done = programs.run("smtpd", "--check", SMTPD_MAXSIZE="1")
    assert done.returncode == 0
    assert "SMTPD_MAXSIZE" in done.stderr and "level=warn" in done.stderr


def test_unreadable_list(programs, tmp_path):
    """A directory: that one is not even root's to read as a file."""
    path = tmp_path / "domains"
    path.mkdir()
    done = programs.run("smtpd", SMTPD_DOMAINS=f"@{path}")
    assert done.returncode == EX_CONFIG and "SMTPD_DOMAINS" in done.stderr
