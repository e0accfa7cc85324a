"""Certificates and keys for tests of TLS, made by openssl when a test asks for them: no key lies in
the tree."""

import dataclasses
import pathlib
import ssl
import subprocess

KEYS = {"rsa": ["rsa:2048"], "ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]}
DOMAIN = "mayfly.example"


@dataclasses.dataclass
class Pair:
    """A certificate that signs itself, and its key: PEM files."""
    cert: pathlib.Path
    key: pathlib.Path

    def settings(self):
        """What makes smtpd use it."""
        return {"SMTPD_TLS_CERT": self.cert, "SMTPD_TLS_KEY": self.key}

    def client(self, version=None):
        """A client's context that trusts this certificate and no other; speaks only `version` (an
        ssl.TLSVersion) when it is given."""
        context = ssl.create_default_context(cafile=self.cert)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def openssl(*args):
    done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def make(directory, kind="ecdsa", name="tls", passphrase=None):
    """Makes directory/<name>.crt and .key, in place of what lies there, for mayfly.example and
    127.0.0.1; `kind` is "rsa" or "ecdsa", and a key with a passphrase is encrypted."""
    pair = Pair(pathlib.Path(directory) / f"{name}.crt", pathlib.Path(directory) / f"{name}.key")
    secret = ["-nodes"] if passphrase is None else ["-passout", f"pass:{passphrase}"]
    openssl("req", "-x509", "-newkey", *KEYS[kind], *secret, "-days", "30", "-subj",
            f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN},IP:127.0.0.1",
            "-keyout", pair.key, "-out", pair.cert)
    return pair


def expire(pair):
    """Makes the certificate one that expired yesterday."""
    openssl("x509", "-in", pair.cert, "-signkey", pair.key, "-days", "-1", "-out", pair.cert)
