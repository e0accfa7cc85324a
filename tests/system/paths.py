"""Addresses of exact lengths."""


def domain(length):
    """A domain of that many octets, its labels as long as they may be (63)."""
    labels, left = [], length
    while left > 63:
        # Never leaves room for a dot and nothing behind it.
        label = 63 if left != 64 else 62
        labels.append("d" * label)
        left -= label + 1
    labels.append("d" * left)
    return ".".join(labels)
