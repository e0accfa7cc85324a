"""`make torture`: runs the parts, each to its end, and closes with a table of what was tried and what
became of the mail. Fails when a part failed, or when all of them tried nothing. A part that may not
try something on this machine says why, and is counted as skipped.

Most of them wait most of the time, for a disk or a clock: three are run side by side, the longest
first, and each is shown when it has ended. The one that measures is alone behind them.

    run.py [part…]      a part is test_torture_<part>*.py, with - for _; all of them by default
"""

import concurrent.futures
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
PARTS = ("tools", "database-faults", "system-faults", "crash-points", "power-cut", "mutants",
         "any-order", "soak")
ALONE = ("soak",)
SIDE_BY_SIDE = 3
COUNTS = ("tried", "lost", "doubled", "altered")


def files_of(part):
    return [str(path) for path in sorted(HERE.glob(f"test_torture_{part.replace('-', '_')}*.py"))]


def run(part, table):
    """Runs one part; returns its name, whether it passed, what it skipped, and how long it took."""
    began = time.monotonic()
    report = table + ".xml"
    command = ["/usr/bin/python3", "-m", "pytest", "-rfEs", "-p", "no:cacheprovider",
               f"--junit-xml={report}", *files_of(part)]
    alone = part in ALONE
    if alone:
        print(f"\n=== {part}", flush=True)
    done = subprocess.run(
        command, env=os.environ | {"TORTURE": SIZE, "TORTURE_TABLE": table},
        stdin=subprocess.DEVNULL, stdout=None if alone else subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if not alone:
        print(f"\n=== {part}\n{done.stdout}", flush=True)
    skipped = []
    if os.path.exists(report):
        for case in ElementTree.parse(report).iter("testcase"):
            skipped += [case.get("name") for _ in case.iter("skipped")]
    return part, done.returncode == 0, skipped, time.monotonic() - began


def run_all(parts, directory):
    """What run says of each, as they end."""
    together = [part for part in parts if part not in ALONE]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        runs = [pool.submit(run, part, os.path.join(directory, part)) for part in together]
        for ended in concurrent.futures.as_completed(runs):
            yield ended.result()
    for part in parts:
        if part in ALONE:
            yield run(part, os.path.join(directory, part))


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
    unknown = [part for part in parts if part not in PARTS or not files_of(part)]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    print(f"TORTURE={SIZE}", flush=True)
    rows, counts, began = [], {"passed": 0, "failed": 0, "skipped": 0}, time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for part, passed, skipped, seconds in run_all(parts, directory):
            said = rows_of(os.path.join(directory, part), part)
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
