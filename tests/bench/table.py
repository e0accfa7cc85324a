"""The table of ratios: what was seen, what it is held against, and whether the goal is reached.

A row has the medians of Mayfly and of what stands beside it, and their ratio; behind the ratio is
the range of those of the single runs, which were taken in turns: one that is wide says that the
machine was not left alone, and the row is worth less.
"""

import dataclasses
import statistics


def number(value):
    """With three digits, or all that stand before the point."""
    if value is None:
        return "–"
    digits = next(digits for digits, least in enumerate((100, 10, 1, 0)) if abs(value) >= least)
    return f"{value:,.{digits if value else 0}f}"


@dataclasses.dataclass
class Goal:
    """A bound on a ratio, or on the figure itself when nothing stands beside it."""
    least: float = None
    most: float = None
    unit: str = "×"

    def __str__(self):
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {bound:g} {self.unit}".strip()

    def reached(self, value):
        return value >= self.least if self.least is not None else value <= self.most


@dataclasses.dataclass
class Row:
    what: str
    mine: str
    beside: str
    ratio: str
    goal: str
    verdict: str

    def line(self):
        return "| " + " | ".join((self.what, self.mine, self.beside, self.ratio, self.goal,
                                  self.verdict)) + " |"


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, mine, beside, ratio, goal=None, value=None):
        """A row in words; `value` is what the goal is about."""
        verdict = "" if goal is None else "yes" if goal.reached(value) else "**no**"
        self.rows.append(Row(what, mine, beside, ratio, "" if goal is None else str(goal), verdict))
        return self.rows[-1]

    def ratio(self, what, mine, beside, unit, whose, goal=None):
        """Mayfly's runs, and as many of another, in the order in which they were taken."""
        medians = statistics.median(mine), statistics.median(beside)
        value = medians[0] / medians[1]
        single = [one / other for one, other in zip(mine, beside) if other]
        spread = f" ({number(min(single))} to {number(max(single))})" if len(single) > 1 else ""
        return self.add(what, f"{number(medians[0])} {unit}".strip(),
                         f"{number(medians[1])} {whose}", number(value) + " ×" + spread, goal,
                         value)

    def figure(self, what, runs, unit, goal=None, beside=""):
        """Something that is measured by itself."""
        value = statistics.median(runs)
        spread = f" ({number(min(runs))} to {number(max(runs))})" if len(runs) > 1 else ""
        return self.add(what, f"{number(value)} {unit}".strip() + spread, beside, "", goal, value)

    def skipped(self, what, why):
        self.rows.append(Row(what, "not measured", why, "", "", ""))
        return self.rows[-1]

    def markdown(self):
        lines = ["| | Mayfly | beside | ratio | goal | reached |", "|---|---|---|---|---|---|"]
        return "\n".join(lines + [row.line() for row in self.rows])
