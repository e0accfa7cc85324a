"""TLS for the client of raw bytes, between what it means and the socket.

The engine works in memory, so that a test has both in hand: the plaintext, and the records as they
go over the wire, which it may cut, hold back, or leave away.
"""

import ssl

RECORD_HEADER = 5


class Tls:
    """One end of a TLS connection, without a socket. `context` is an ssl.SSLContext."""

    def __init__(self, context, hostname=None):
        # An end without close_notify is told from one with it.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.ended = False   # the peer has said close_notify

    @property
    def version(self):
        return self._object.version()

    @property
    def certificate(self):
        """The peer's, in DER."""
        return self._object.getpeercert(binary_form=True)

    def handshake(self):
        """Goes as far as what was received allows; True when it is done. What it has to say is in
        pending()."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def pending(self):
        """The octets that are to be sent."""
        return self._outgoing.read()

    def encrypt(self, data):
        """The records that carry the data."""
        self._object.write(data)
        return self.pending()

    def receive(self, octets):
        """Takes what came over the wire; b"" is its end."""
        if octets:
            self._incoming.write(octets)
        else:
            self._incoming.write_eof()

    def decrypt(self):
        """The plaintext that has come so far, without waiting; sets `ended`."""
        plain = b""
        while not self.ended:
            try:
                piece = self._object.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""   # said after ours
            except ssl.SSLError as error:
                if error.reason != "UNEXPECTED_EOF_WHILE_READING":
                    raise
                break
            if not piece:
                self.ended = True
            plain += piece
        return plain

    def close_notify(self):
        """The record that ends our side."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass   # it would wait for the peer's
        return self.pending()


def client_hello():
    """The first flight of a handshake, of somebody who will not go on with it."""
    context = ssl.create_default_context()
    opening = Tls(context, "mayfly.example")
    opening.handshake()
    return opening.pending()
