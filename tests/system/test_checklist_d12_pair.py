"""Checklist D12-01, D12-04, D12-05: the certificate and its key, good and broken, at start and when
they are read again."""

import os
import shutil
import signal
import ssl

import pytest

import tlsfiles
from deadline import wait_for


def now_shown(smtpd, pair):
    """The certificate that a new handshake shows."""
    context = pair.client()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtpd.session("E", tls=context) as client:
        client.alive()
        return client.tls.certificate


def der(pair):
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def test_d12_01_pair_is_read_again(programs, spool, tmp_path):
    pair = tlsfiles.make(tmp_path)
    smtpd = programs.smtpd(spool, **pair.settings())
    first = der(pair)
    during = smtpd.session("R", tls=pair.client())
    half = smtpd.session("E")
    half.command("STARTTLS", 220)
    assert now_shown(smtpd, pair) == first
    before = len(smtpd.log(event="tls_loaded"))
    tlsfiles.make(tmp_path, "rsa")
    assert der(pair) != first
    assert now_shown(smtpd, pair) == first, "read before it was asked for"
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: now_shown(smtpd, pair) == der(pair), "the new certificate is shown")
    assert len(smtpd.log(event="tls_loaded")) == before + 1
    # Who was there before does not notice.
    during.alive()
    during.command("DATA", 354)
    during.content(b"x")
    during.reply(250, "2.0.0")
    anybody = pair.client()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    half.handshake(anybody).to("E").alive()
    for client in (during, half):
        client.quit()


def no_key(pair, tmp_path):
    pair.key.unlink()


def other_key(pair, tmp_path):
    shutil.copy(tlsfiles.make(tmp_path, name="other").key, pair.key)


def garbage(pair, tmp_path):
    pair.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")


def empty(pair, tmp_path):
    pair.cert.write_text("")


def no_certificate(pair, tmp_path):
    pair.cert.unlink()


def directory(pair, tmp_path):
    pair.key.unlink()
    pair.key.mkdir()


def encrypted(pair, tmp_path):
    locked = tlsfiles.make(tmp_path, name="locked", passphrase="secret")
    os.replace(locked.cert, pair.cert)
    os.replace(locked.key, pair.key)


def swapped(pair, tmp_path):
    cert, key = pair.cert.read_text(), pair.key.read_text()
    pair.cert.write_text(key)
    pair.key.write_text(cert)


SPOILS = [no_key, other_key, garbage, empty, no_certificate, directory, encrypted, swapped]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_d12_04_broken_pair_keeps_the_old_one(programs, spool, tmp_path, spoil):
    """No 454: TLS with the pair that was good is better than none."""
    pair = tlsfiles.make(tmp_path)
    first = der(pair)
    smtpd = programs.smtpd(spool, **pair.settings())
    spoil(pair, tmp_path)
    smtpd.send_signal(signal.SIGHUP)
    kept = smtpd.wait_log(event="tls_kept")
    assert kept["level"] == "error"
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with smtpd.session("E", tls=trusting) as client:
        assert client.tls.certificate == first
        client.mail()
    if pair.key.is_dir():
        pair.key.rmdir()
    tlsfiles.make(tmp_path)
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: now_shown(smtpd, pair) == der(pair) != first, "the mended pair is shown")


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_d12_05_broken_pair_at_start(programs, spool, tmp_path, spoil):
    pair = tlsfiles.make(tmp_path)
    spoil(pair, tmp_path)
    done = programs.run("smtpd", SPOOL=spool, SMTPD_LISTEN="127.0.0.1:0", **pair.settings())
    assert done.returncode == 78, done.stderr
    assert "setting=SMTPD_TLS_" in done.stderr and str(tmp_path) in done.stderr
    assert "secret" not in done.stderr and "PRIVATE KEY" not in done.stderr


@pytest.mark.parametrize("missing", ["SMTPD_TLS_CERT", "SMTPD_TLS_KEY"])
def test_d12_05_half_a_pair_at_start(programs, spool, pair, missing):
    settings = pair.settings()
    del settings[missing]
    done = programs.run("smtpd", SPOOL=spool, SMTPD_LISTEN="127.0.0.1:0", **settings)
    assert done.returncode == 78 and missing in done.stderr
