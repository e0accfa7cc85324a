"""Which tests of the checklist are tried in the clear and behind STARTTLS, and which once."""

import re

# What begins so is tried once, and why.
ONCE = {
    "d1_01": "the greeting comes before TLS can",
    "d1_05": "the refusal is said instead of the greeting",
    "d1_06": "the refusal is said instead of the greeting",
    "d1_08_default": "no session",
    "d8_07_before_the_greeting": "what is sent before the greeting is in the clear",
    "d8_09": "what is sent before the greeting is in the clear",
    "d12": "STARTTLS itself; each test says on which side of it a session stands",
    "d13_06": "the PROXY header comes before the greeting",
    "d13_07": "the PROXY header comes before the greeting",
    "d13_08": "the PROXY header comes before the greeting",
    "d14_04": "the refusal is said instead of the greeting",
    "d14_05": "ends sessions in the clear, in the handshake and behind it",
    "d14_07": "about descriptors, which TLS has no more of",
    "d14_09": "about the log",
}


def both(test):
    """Whether a test function, by its name, is tried both ways."""
    if not re.match(r"test_d\d+_\d\d_", test):
        return False
    return not any(test.startswith(f"test_{prefix}") for prefix in ONCE)
