"""smtpd that stores some mail and relays other, its clients, and what they sent as it lies in both
queues."""

INSIDE, OUTSIDE = "127.0.0.2", "127.0.0.3"


def relaying(programs, spool, **settings):
    """smtpd that stores mail to t.example, and relays for INSIDE."""
    return programs.smtpd(spool, **({"SMTPD_DOMAINS": "t.example",
                                     "SMTPD_RELAY_CLIENTS": f"{INSIDE}/32",
                                     "SMTPD_MAX_ERRORS": 1000} | settings))


def codes(client, *paths):
    """What is said to each recipient of a transaction: a list of (code, enhanced code)."""
    client.command("MAIL FROM:<a@c.example> SMTPUTF8", 250)
    replies = [client.command(f"RCPT TO:<{path}>") for path in paths]
    return [(reply.code, reply.enhanced) for reply in replies]


def send(smtpd, source, *recipients, body=b"Subject: hello\r\n\r\nhello", **options):
    """One message; returns its id."""
    with smtpd.session("E", source=source, **options) as client:
        return client.mail(body, recipients=recipients)


def check(queue, id, recipients, body=b"Subject: hello\r\n\r\nhello\r\n"):
    """The message lies in a queue, for these recipients alone, as it was sent."""
    message = queue.message(id)
    assert (message.recipients, message.body) == (list(recipients), body)
    assert message.raw.startswith(b"Received: ") == (queue.queue.name == "relay")
    return message
