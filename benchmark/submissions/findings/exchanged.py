"""Whether verdicts hold under other searches of the baseline: its runs exchanged for theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.study.scores import HEADLINE
from benchmark.submissions.compared import against
from benchmark.submissions.findings.studies import Entry, Study, headline
from benchmark.submissions.read import SubmittedRow


@dataclass(frozen=True)
class Exchange:
    """The verdicts against the baseline on a dataset, under each of its searches.

    Attributes:
        dataset: where the baseline was searched more than once.
        searches: how many of its searches have all their runs.
        verdicts: of each compared method, one for each of these searches, the row's own first.
    """

    dataset: str
    searches: int
    verdicts: Mapping[str, Sequence[str]]

    @property
    def moved(self) -> list[str]:
        """Return the methods whose verdict is not the same under all searches, best first."""
        return [method for method, own in self.verdicts.items() if len(set(own)) > 1]


def exchanges(study: Study) -> Iterator[Exchange]:
    """Yield every dataset on which the baseline has further searches that lost no run."""
    for dataset, group in study.by_dataset.items():
        base = next(n for n, entry in enumerate(group) if entry.method == study.baseline)
        seeds = group[base].cell.seeds
        searches = [row for row in group[base].searches if len(headline(row)) == seeds]
        if len(searches) > 1:
            found = [_verdicts(group, base, row) for row in searches]
            compared = [e.method for e in study.compared if e.cell.dataset == dataset]
            verdicts = {method: [own[method] for own in found] for method in compared}
            yield Exchange(dataset, len(searches), verdicts)


def _verdicts(group: Sequence[Entry], base: int, search: SubmittedRow) -> dict[str, str]:
    """Return each method's verdict where the baseline's runs are those of ``search``."""
    rows = [search if n == base else entry.row for n, entry in enumerate(group)]
    judged = against(rows, base, group[base].cell.seeds, HEADLINE)
    return {group[n].method: result.verdict or "" for n, result in judged.items()}
