"""Whether a finished study kept to the bound that ``plan`` promises, by what its own jobs took."""

from __future__ import annotations

from statistics import fmean

from benchmark.running.bound import graham
from benchmark.running.expected import OVERHEAD_S
from benchmark.study.folder import load_study


def span_and_bound(out, workers):
    """Return the seconds from the first job's start to the last record, and what bounds them.

    The bound is made as the plan makes it, of the seconds that the jobs took in this very run in
    place of those measured before it, so another load of the machine moves both. The overhead of a
    job is what an idle machine needs; it grows as the jobs themselves do, from the fastest of
    their kind to their mean.
    """
    study = load_study(out)
    chains, seconds, starts, ends = {}, [], [], []
    for key in study.cells:
        stages = [("search", trial.number) for trial in study.trials(key)]
        groups = [study.jobs(key, *at) for at in stages]
        finals = [job for run in study.runs(key) for job in study.jobs(key, "final", run.seed)]
        took = [[job.measured["seconds"] for job in group] for group in (*groups, finals)]
        chains[key.id] = [max(group) for group in took if group]
        seconds += [(key.trains, s) for group in took for s in group]
        for job in (job for group in (*groups, finals) for job in group):
            ended = study.record_path(key, job).stat().st_mtime
            starts.append(ended - job.measured["seconds"])
            ends.append(ended)
        ends += [study.record_path(key, run).stat().st_mtime for run in study.runs(key)]
    trained = [s for trains, s in seconds if trains]
    overhead = OVERHEAD_S * fmean(trained) / min(trained)
    work = sum(s + overhead for _, s in seconds)
    chain = max(sum(s + overhead for s in group) for group in chains.values())
    return max(ends) - min(starts), graham(work, chain, workers)
