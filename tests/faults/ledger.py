"""How often each fault was tried, and what became of it."""

from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Row:
    tried: int = 0
    survived: int = 0
    outcome: str = ""


@dataclass
class Ledger:
    """Rows by (suite, fault): suites by name, faults in the order in which they were tried."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    @contextmanager
    def attempt(self, suite, fault, outcome, times=1):
        """Count a fault as tried, and as survived unless the block raises."""
        row = self.rows.setdefault((suite, fault), Row())
        row.outcome = outcome
        row.tried += times
        yield
        row.survived += times

    def add(self, suite, fault, tried, survived, outcome):
        """Take over a row of another process."""
        row = self.rows.setdefault((suite, fault), Row())
        row.outcome = outcome
        row.tried += tried
        row.survived += survived

    def plain(self):
        """Return the rows as lists, as :meth:`add` takes them."""
        return [[*key, r.tried, r.survived, r.outcome] for key, r in self.rows.items()]

    def markdown(self, title):
        lines = [title]
        for suite in sorted({suite for suite, _ in self.rows}):
            lines += ["", f"## {suite}", "", "| fault | tried | survived | lost | what happens |"]
            lines += ["|---|---:|---:|---:|---|"]
            lines += [
                f"| {fault} | {r.tried} | {r.survived} | {r.tried - r.survived} | {r.outcome} |"
                for (where, fault), r in self.rows.items()
                if where == suite
            ]
        return "\n".join(lines) + "\n"
