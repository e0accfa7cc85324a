"""`make torture`: runs the parts one after the other, each to its end, and closes with a table of
what was tried and what became of the mail. Fails when a part failed or tried nothing.

    run.py [part…]      a part is test_torture_<part>*.py, with - for _; all of them by default
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from size import SIZE

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ("crash-points", "power-cut", "system-faults", "database-faults", "any-order", "mutants",
         "soak", "tools")
COUNTS = ("tried", "lost", "doubled", "altered")


def files_of(part):
    return [str(path) for path in sorted(HERE.glob(f"test_torture_{part.replace('-', '_')}*.py"))]


def run(part, table):
    """Runs one part; returns what pytest ended with, and how long it took."""
    began = time.monotonic()
    environment = os.environ | {"TORTURE": SIZE, "TORTURE_TABLE": table}
    code = subprocess.run(
        ["/usr/bin/python3", "-m", "pytest", "-rfEs", "-p", "no:cacheprovider", *files_of(part)],
        env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    return code, time.monotonic() - began


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
    rows, failed, began = [], [], time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for part in parts:
            table = os.path.join(directory, part)
            print(f"\n=== {part}", flush=True)
            code, seconds = run(part, table)
            said = []
            if os.path.exists(table):
                with open(table, encoding="utf-8") as lines:
                    said = [json.loads(line) for line in lines]
            if not said:
                said = [{"part": part, **dict.fromkeys(COUNTS, 0)}]
            word = "failed" if code != 0 else f"{seconds:.0f} s"
            if code == 0 and not any(row["tried"] for row in said):
                word = "tried nothing here: see above"
            said[0]["word"] = word
            rows += said
            if code != 0:
                failed.append(part)
    show(rows)
    tried = sum(row["tried"] for row in rows)
    print(f"\n{tried} tried in {time.monotonic() - began:.0f} s; "
          f"{len(parts) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or tried == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PARTS)))
