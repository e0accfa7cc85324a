"""Delivery status notifications, read as a mail reader does: RFC 3464 in the frame of RFC 6522, and
RFC 6533 where an address is UTF-8. What they must have in any case is asserted here."""

import dataclasses
import email
import email.policy
import re

KINDS = {"message/delivery-status", "message/global-delivery-status"}
HEADERS = {"text/rfc822-headers", "message/global-headers"}


@dataclasses.dataclass
class Notice:
    """One notification. `recipients`: {address: its fields}; `returned`: the header that came back."""
    message: email.message.EmailMessage
    text: str
    fields: dict
    recipients: dict
    returned: email.message.EmailMessage
    kind: str


def fields_of(block):
    """A group of fields, as {name in lower case: value}."""
    lines = re.sub(r"\r\n[ \t]+", " ", block).split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


def address_of(value):
    """`rfc822; a@b` or `utf-8; a@b` without its type."""
    kind, _, address = value.partition(";")
    assert kind.strip().lower() in ("rfc822", "utf-8"), value
    return address.strip()


def read(content):
    """Reads one, given as it is in the spool or as it was sent, trace fields included."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert not message.defects and not re.search(rb"(?<!\r)\n|\r(?!\n)", content), content
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert message.get_content_type() == "multipart/report"
    assert message["Auto-Submitted"].startswith("auto-")
    for name in ("From", "To", "Date", "Message-ID", "Subject", "MIME-Version"):
        assert len(message.get_all(name)) == 1, name
    parts = list(message.iter_parts())
    assert [part.get_content_maintype() for part in parts[:1]] == ["text"] and len(parts) == 3
    status, returned = bodies(content, message.get_boundary())[1:3]
    kind = parts[1].get_content_type()
    assert kind in KINDS and parts[2].get_content_type() in HEADERS
    assert message.get_param("report-type") == kind.partition("/")[2]
    first, *rest = (block for block in status.decode().split("\r\n\r\n") if block.strip())
    groups = [fields_of(block) for block in rest]
    for group in groups:
        assert {"final-recipient", "action", "status"} <= set(group), group
    return Notice(message, parts[0].get_content(), fields_of(first),
                  {address_of(group["final-recipient"]): group for group in groups},
                  email.message_from_bytes(returned, policy=email.policy.default), kind)


def bodies(content, boundary):
    """The parts as they stand there, without their headers: Python's parser knows only one of the
    two kinds of status."""
    mark = b"\r\n--" + boundary.encode()
    parts = [part.partition(b"\r\n\r\n")[2] for part in content.split(mark)[1:-1]]
    assert content.split(mark)[-1].startswith(b"--")
    return parts
