"""Load balancers: the headers of the PROXY protocol, written from its specification, and haproxy,
who wrote that."""

import contextlib
import csv
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess

import smtp
from cluster import short_directory

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, TLS, NETNS = 1, 2, 3, 4, 5, 0x20, 0x30


def v1(source, port=56324, destination=None):
    """A header of version 1 for a client of that address."""
    ipv6 = ":" in source
    destination = destination or ("2001:db8::25" if ipv6 else "198.51.100.25")
    return f"PROXY TCP{6 if ipv6 else 4} {source} {destination} {port} 25\r\n".encode()


def tlv(type, value=b""):
    return struct.pack("!BH", type, len(value)) + value


def block(command, family, bytes=b"", length=None):
    """A header of version 2 of any content; `length` may lie."""
    return SIGNATURE + struct.pack("!BBH", command, family,
                                   len(bytes) if length is None else length) + bytes


def v2(source, port=56324, tlvs=b""):
    """A header of version 2 for a client of that address."""
    ipv6 = ":" in source
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    destination = "2001:db8::25" if ipv6 else "198.51.100.25"
    return block(PROXY, TCP6 if ipv6 else TCP4,
                 socket.inet_pton(family, source) + socket.inet_pton(family, destination) +
                 struct.pack("!HH", port, 25) + tlvs)


def crc32c(octets):
    crc = 0xffffffff
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def summed(header):
    """The header of version 2 with its checksum at its end."""
    length, = struct.unpack("!H", header[14:16])
    header = header[:14] + struct.pack("!H", length + 7) + header[16:] + tlv(CRC32C, bytes(4))
    return header[:-4] + struct.pack("!I", crc32c(header))


def connect(smtpd, header, at="G", **options):
    """A client behind a header, which has read the greeting and gone on to a state."""
    client = smtp.Client(smtpd.address, **options)
    client.send(header)
    client.greeting()
    return client.to(at)


class Haproxy:
    """haproxy before smtpd, on a port of its own; `server` is what follows the address of its
    server line, `host` the address that it listens on."""

    def __init__(self, smtpd, server, host="127.0.0.1", frontend=()):
        self.directory = short_directory("mayfly-haproxy-")
        self.listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            dualstack_ipv6=host == "::")
        self.port = self.listener.getsockname()[1]
        self.control = self.directory / "control"
        lines = ["global", f"stats socket {self.control}", "nbthread 1", "maxconn 100",
                 "defaults", "mode tcp", "timeout connect 60s", "timeout client 60s",
                 "timeout server 60s", "listen smtp", f"bind fd@{self.listener.fileno()}",
                 *frontend, f"server smtpd 127.0.0.1:{smtpd.port} {server}"]
        config = self.directory / "haproxy.cfg"
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [program(), "-db", "-f", config], stdin=subprocess.DEVNULL,
            pass_fds=[self.listener.fileno()], start_new_session=True)

    def check_status(self):
        """What haproxy's health check says of smtpd, such as L7OK; None before it can tell."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.control))
            control.sendall(b"show stat\n")
            said = b"".join(iter(lambda: control.recv(65536), b"")).decode()
            for row in csv.DictReader(said.lstrip("# ").splitlines()):
                if row["svname"] == "smtpd":
                    return row["check_status"]
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)


def program():
    """Where haproxy is, or None: /usr/sbin is not on everybody's path."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/local/sbin"]
    found = [path for path in (pathlib.Path(place) / "haproxy" for place in places)
             if os.access(path, os.X_OK)]
    return found[0] if found else None
