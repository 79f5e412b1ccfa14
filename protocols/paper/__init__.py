"""What "A Metric Learning Reality Check" searched, chose and published, in this project's names.

Source: Musgrave, Belongie and Lim, ECCV 2020, arXiv:2003.08505; README.md beside the data says
where each figure was read and how far it can be trusted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from protocols.errors import unknown_name

DATASETS = ("cub200", "cars196", "sop")

# Retrained runs behind each mean: an assumption, as no opened source prints their number. The
# documentation of the paper's code passes 10 in its example. The mean counts the search's winner as
# one more, and half-widths are not known; 10 is the smaller number, so what is predicted is the
# wider.
RUNS = 10

WORK = "A Metric Learning Reality Check"

# The trunk's weights, of the package pretrainedmodels. Its names end with the first digits of a
# file's sha256, and torch refused a download that had others.
WEIGHTS = "bn_inception-52deb4733.pth"
WEIGHTS_SHA256 = "52deb4733"

BATCH_SIZE = 32  # of all searches but the further ones at 256 on cub200


class Row(NamedTuple):
    """A method of the paper: its title in the tables, and its parameters in our names."""

    title: str
    parameters: Mapping[str, str]  # the last two parts of the paper's path -> our name
    fixed: Mapping[str, Mapping[str, int]] = {}  # dataset -> settings that were not searched
    made_with: Mapping[str, bool] = {}  # the form of its code, where a search here takes another
    other_form: str = ""  # how the form here differs; README.md has more of it


_MS = {f"MultiSimilarityLoss/{name}": name for name in ("alpha", "beta", "base")}
_MARGIN = {"RMSprop/lr": "beta_lr", "MarginLoss/margin": "margin", "MarginLoss/beta": "beta"}

METHODS: Mapping[str, Row] = {
    "pretrained": Row(
        "Pretrained",
        {},
        other_form="scale and axes are fitted on training images; the paper's tester fits them on "
        "the images that it scores",
    ),
    "contrastive": Row(
        "Contrastive",
        {"ContrastiveLoss/pos_margin": "pos_margin", "ContrastiveLoss/neg_margin": "neg_margin"},
    ),
    "triplet": Row("Triplet", {"TripletMarginLoss/margin": "margin"}),
    "ntxent": Row(
        "NT-Xent",
        {"NTXentLoss/temperature": "temperature"},
        made_with={"compat": True},
        other_form="another form than the paper's code: the logarithm is exact, without 1e-20 in "
        "it",
    ),
    "proxynca": Row("ProxyNCA", {"RMSprop/lr": "proxy_lr", "ProxyNCALoss/softmax_scale": "scale"}),
    "margin": Row("Margin", _MARGIN),
    "margin_class": Row("Margin/class", _MARGIN),
    "nsoftmax": Row(
        "N. Softmax",
        {"RMSprop/lr": "weight_lr", "NormalizedSoftmaxLoss/temperature": "temperature"},
    ),
    "cosface": Row(
        "CosFace",
        {"RMSprop/lr": "weight_lr", "CosFaceLoss/margin": "margin", "CosFaceLoss/scale": "scale"},
    ),
    "arcface": Row(
        "ArcFace",
        {"RMSprop/lr": "weight_lr", "ArcFaceLoss/margin": "margin", "ArcFaceLoss/scale": "scale"},
        made_with={"compat": True},
        other_form="another form than the paper's code: beyond 180 degrees it falls on",
    ),
    "fastap": Row("FastAP", {"FastAPLoss/num_bins": "bins"}),
    "snr": Row(
        "SNR",
        {
            "SignalToNoiseRatioContrastiveLoss/pos_margin": "pos_margin",
            "SignalToNoiseRatioContrastiveLoss/neg_margin": "neg_margin",
            "SignalToNoiseRatioContrastiveLoss/regularizer_weight": "reg_weight",
        },
    ),
    "ms": Row("MS", _MS),
    "ms_miner": Row(
        "MS+Miner",
        {**_MS, "MultiSimilarityMiner/epsilon": "epsilon"},
        other_form="another form than the paper's code: an anchor is no positive of its own",
    ),
    "softtriple": Row(
        "SoftTriple",
        {
            "RMSprop/lr": "centre_lr",
            "SoftTripleLoss/la": "la",
            "SoftTripleLoss/gamma": "gamma",
            "SoftTripleLoss/reg_weight": "reg_weight",
            "SoftTripleLoss/margin": "margin",
        },
        # Not printed anywhere. 10 is the library's default; SOP has no regulariser weight, which
        # its code used with more than one centre only.
        {"cub200": {"centres": 10}, "cars196": {"centres": 10}, "sop": {"centres": 1}},
    ),
}


# How the collected figures of other papers call our methods: what their names begin with.
PUBLISHED_AS: Mapping[str, tuple[str, ...]] = {
    "bfe": ("BDB",),
    "cgd": ("CGD",),
    "divide_conquer": ("Divide and Conquer",),
    "group": ("GroupLoss", "Group Loss"),
    "horde": ("HORDE", "ABE + HORDE"),
    "ms": ("MultiSimilarity",),
    "ms_miner": ("MultiSimilarity+miner",),
    "nsoftmax": ("NormalizedSoftmax", '"NormalizedSoftmax'),
    "proxy_anchor": ("ProxyAnchor",),
    "snr": ("SNRContrastive",),
    "triplet_hard": ("BatchHardTriplet",),
}


# Whose released code keeps the epoch, or reloads the weights, that did best on test classes.
_CHOSEN_ON_TEST = tuple(
    title
    for name in ("bfe", "cgd", "divide_conquer", "group", "horde")
    for title in PUBLISHED_AS[name]
)


class Bounds(NamedTuple):
    """One axis of a search."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class PublishedMean:
    """One published mean on test classes.

    Attributes:
        method: our name, or "" for a method that does not ship.
        title: the name in the source.
        embedding: ``separated_128`` or ``concatenated_512``.
        metric: ``precision_at_1``, ``r_precision`` or ``map_at_r``.
        value: a fraction.
        source: where the figure was read.
        work: who published it: the paper, or what came later and says it kept the paper's rules.
        read_error: how far from ``value`` the figure may be, a fraction: it was read off a chart.
        doubtful: whether the source itself may be wrong, as ``source`` then says.
    """

    method: str
    title: str
    embedding: str
    metric: str
    value: float
    source: str
    work: str = WORK
    read_error: float = 0.0
    doubtful: bool = False


def search_space(
    method: str,
    dataset: str,
    batch_size: int = BATCH_SIZE,
    bounds: Literal["wide", "narrow"] = "wide",
) -> dict[str, Bounds]:
    """Return what the paper searched, by our hyperparameter names; empty where it did not.

    Args:
        method: our name of one of the paper's methods.
        dataset: ours; ``cub200``, ``cars196`` and ``sop`` are in the paper.
        batch_size: 32, or 256 on ``cub200``.
        bounds: several searches were widened half-way, when their best point sat on an edge.
            ``wide`` is where they ended, ``narrow`` where they began, as far as that is known.

    Raises:
        UnknownNameError: the method is not in the paper.
    """
    found = {}
    for name, row in _searched(method, dataset, batch_size).items():
        first = _first_bounds().get(_key(row)) if bounds == "narrow" else None
        ends = first or row
        found[name] = Bounds(float(ends["low"]), float(ends["high"]), row["scale"] == "log")
    return found


def fixed(method: str, dataset: str) -> dict[str, int]:
    """Return settings that the paper held fixed on ``dataset``, by our hyperparameter names."""
    return dict(_row(method).fixed.get(dataset, {}))


def other_form(method: str, *, searched: bool) -> str:
    """Return how a method's form here differs from the paper's code; empty if it does not.

    Args:
        method: our name.
        searched: whether its settings are searched here, and not those that the paper chose.
    """
    row = METHODS.get(method)
    return "" if row is None or (row.made_with and not searched) else row.other_form


def best(method: str, dataset: str, batch_size: int = BATCH_SIZE) -> dict[str, float]:
    """Return the setting the paper's search chose, complete; empty where it made no such search.

    Where the paper's code computed a loss in another form, the setting asks for that form.

    Raises:
        UnknownNameError: the method is not in the paper.
    """
    searched = _searched(method, dataset, batch_size)
    whole = {"bins"}  # counted, not measured
    chosen: dict[str, float] = {
        name: int(row["best_value"]) if name in whole else float(row["best_value"])
        for name, row in searched.items()
    }
    return {**chosen, **fixed(method, dataset), **_row(method).made_with} if chosen else chosen


def table(dataset: str) -> list[PublishedMean]:
    """Return what the paper and its successors published for ``dataset``; may be empty.

    SOP has only concatenated MAP@R, read off a chart.
    """
    own = [f"reality_check_{dataset}.csv", f"reality_check_{dataset}_digitised.csv"]
    rows = [row for name in own for row in _read(name)] if dataset in DATASETS else []
    later = [row for row in _read("later_methods_same_protocol.csv") if row["dataset"] == dataset]
    return [
        *(_mean(row, WORK) for row in rows),
        # "Triplet + within-pair mining" is a row of what is named last
        *(_mean(row, row["method"].rpartition(" + ")[2]) for row in later),
    ]


def _mean(row: Mapping[str, str], work: str) -> PublishedMean:
    names = {each.title: name for name, each in METHODS.items()}
    return PublishedMean(
        method=names.get(row["method"], "") if work == WORK else "",
        title=row["method"],
        embedding=row["embedding"],
        metric=row["metric"],
        value=float(row["mean"]) / 100,
        source=row["source"],
        work=work,
        read_error=float(row.get("read_error", 0)) / 100,
        doubtful="DOUBTFUL" in row["source"],
    )


def published(methods: Sequence[str], dataset: str | None = None) -> list[dict[str, str]]:
    """Return figures of the methods' own papers and of re-runs, as their sources print them.

    Args:
        methods: ours; none for all figures.
        dataset: ours; None for all datasets.

    Returns:
        Rows with method, dataset, trunk, embedding_dim, metric, value_percent, source and
        ``caution``: what is known to make the figure incomparable, or "".
    """
    wanted = [start.lower() for name in methods for start in PUBLISHED_AS.get(name, (name,))]
    place = {"cub200": "cub", "cars196": "cars", "sop": "sop", "inshop": "in-shop"}
    files = ("losses_published.csv", "feature_methods_published.csv")
    return [
        {**row, "caution": _caution(row)}
        for name in files
        for row in _read(name)
        if (not wanted or row["method"].lower().startswith(tuple(wanted)))
        and (dataset is None or row["dataset"].lower().startswith(place.get(dataset, dataset)))
    ]


def _caution(row: Mapping[str, str]) -> str:
    """Return what is known to lift a published figure above what a sealed test would give."""
    found = []
    if row["method"].startswith(_CHOSEN_ON_TEST) or "best test epoch" in row["source"]:
        found.append("epoch chosen on test")
    if re.search(r"bbox-cropped|bounding-box crops", row["method"]):
        found.append("cropped images")
    elif row["method"] == "CGD (MG/SG)":  # its authors' only code for these two datasets crops
        found.append("probably cropped images")
    return ", ".join(found)


def _row(method: str) -> Row:
    if method not in METHODS:
        raise unknown_name("method of the Reality Check", method, METHODS)
    return METHODS[method]


def _searched(method: str, dataset: str, batch_size: int) -> dict[str, dict[str, str]]:
    """Return the rows of one search by our hyperparameter names, in the paper's order."""
    searched = _row(method)
    place = (dataset, str(batch_size), searched.title)
    return {
        searched.parameters["/".join(row["parameter"].split("/")[-2:])]: row
        for row in _read("mlrc_search_spaces.csv")
        if (row["dataset"], row["batch_size"], row["method"]) == place
    }


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("dataset", "batch_size", "method", "parameter"))


@cache
def _first_bounds() -> dict[tuple[str, ...], dict[str, str]]:
    return {_key(row): row for row in _read("mlrc_first_bounds.csv")}


@cache
def _read(name: str) -> list[dict[str, str]]:
    """Return a file's rows; none where there is no such file."""
    path = Path(__file__).with_name(name)
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
