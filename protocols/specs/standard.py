"""The paper's rules for today: any trunk, plain folds, balanced batches."""

from dataclasses import replace

from protocols.protocol import SearchRule
from protocols.specs import reality_check

PROTOCOL = replace(
    reality_check.PROTOCOL,
    name="standard",
    version=3,
    summary="the paper's rules with plain folds and balanced batches, for any trunk",
    trunk="resnet50",
    fold_rule="kfold",
    sampler="balanced",
    search=SearchRule(trials=50, sampler="tpe", startup_trials=10),
)
