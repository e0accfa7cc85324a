"""What tests ran of some folders, as gcov counted it in a build with COVERAGE=1: a table of lines and
branches a file and a folder. Fails when a folder is below the goal.

    coverage.py OBJECTS LINES BRANCHES FOLDER…      per cent

An assertion has a branch that a right program cannot take, so the branches of assert lines do not
count; nothing else is left out.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ASSERTION = r"^\s*assert\("


def read(objects, folders):
    """What gcovr makes of the counters."""
    done = subprocess.run(
        ["gcovr", "--root", str(ROOT), "--json", "-", "--exclude-branches-by-pattern", ASSERTION,
         *(word for folder in folders for word in ("--filter", f"{folder}/")), objects],
        cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["files"]


class Count:
    """How many there are, and how many of them were run."""

    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_run = 0

    def add(self, file):
        for line in file["lines"]:
            if line.get("gcovr/noncode"):
                continue
            self.lines += 1
            self.lines_run += line["count"] > 0
            self.branches += len(line["branches"])
            self.branches_run += sum(branch["count"] > 0 for branch in line["branches"])

    def part(self):
        """Per cent of the lines, and of the branches."""
        return [100 * run / whole if whole else 100 for run, whole in
                ((self.lines_run, self.lines), (self.branches_run, self.branches))]

    def row(self, name):
        lines, branches = self.part()
        return (f"{name:<24} {self.lines_run:5} of {self.lines:5} {lines:6.1f} % "
                f"{self.branches_run:5} of {self.branches:5} {branches:6.1f} %")


def main(objects, lines_goal, branches_goal, *folders):
    files = read(objects, folders)
    poor = []
    print(f"{'':<24} {'lines run':>23} {'branches taken':>23}")
    for folder in folders:
        whole = Count()
        for file in sorted(files, key=lambda file: file["file"]):
            if pathlib.Path(file["file"]).parts[0] == folder:
                whole.add(file)
                alone = Count()
                alone.add(file)
                print(alone.row("  " + file["file"]))
        print(whole.row(folder))
        lines, branches = whole.part()
        if whole.lines == 0 or lines < float(lines_goal) or branches < float(branches_goal):
            poor.append(folder)
    print(f"the goal: {lines_goal} % of the lines and {branches_goal} % of the branches of a folder;",
          f"below it: {', '.join(poor) or 'none'}")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
