"""`make torture`: runs the parts one after the other, each to its end, and closes with a table of
what was tried and what became of the mail. Fails when a part failed, or when all of them tried
nothing. A part that may not try something on this machine says why, and is counted as skipped.

    run.py [part…]      a part is test_torture_<part>*.py, with - for _; all of them by default
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

from size import SIZE

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ("crash-points", "power-cut", "system-faults", "database-faults", "any-order", "mutants",
         "soak", "tools")
COUNTS = ("tried", "lost", "doubled", "altered")


def files_of(part):
    return [str(path) for path in sorted(HERE.glob(f"test_torture_{part.replace('-', '_')}*.py"))]


def run(part, table):
    """Runs one part; returns whether it passed, what it skipped, and how long it took."""
    began = time.monotonic()
    files = files_of(part)
    if not files:
        sys.exit(f"{part} has no file")
    report = table + ".xml"
    environment = os.environ | {"TORTURE": SIZE, "TORTURE_TABLE": table}
    code = subprocess.run(
        ["/usr/bin/python3", "-m", "pytest", "-rfEs", "-p", "no:cacheprovider",
         f"--junit-xml={report}", *files],
        env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    skipped = []
    if os.path.exists(report):
        for case in ElementTree.parse(report).iter("testcase"):
            skipped += [case.get("name") for _ in case.iter("skipped")]
    return code == 0, skipped, time.monotonic() - began


def rows_of(table, part):
    """What the part said it tried."""
    if not os.path.exists(table):
        return [{"part": part, **dict.fromkeys(COUNTS, 0)}]
    with open(table, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def show(rows):
    """The table, as Markdown, so that it can be put where it is to be read."""
    print("\n| what | " + " | ".join(COUNTS) + " | |\n|---|" + "---:|" * len(COUNTS) + "---|")
    for row in rows:
        print(f"| {row['part']} | " + " | ".join(str(row[count]) for count in COUNTS) +
              f" | {row.get('word', '')} |")


def main(parts):
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    print(f"TORTURE={SIZE}", flush=True)
    rows, counts, began = [], {"passed": 0, "failed": 0, "skipped": 0}, time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for part in parts:
            table = os.path.join(directory, part)
            print(f"\n=== {part}", flush=True)
            passed, skipped, seconds = run(part, table)
            said = rows_of(table, part)
            tried = any(row["tried"] for row in said)
            counts["failed" if not passed else "passed" if tried else "skipped"] += 1
            words = [f"{seconds:.0f} s"] + ["**failed**"] * (not passed)
            if skipped:
                words.append(f"skipped: {', '.join(skipped)}")
            said[0]["word"] = "; ".join(words)
            rows += said
    show(rows)
    print(f"\n{sum(row['tried'] for row in rows)} tried in {time.monotonic() - began:.0f} s")
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PARTS)))
