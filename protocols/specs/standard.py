"""The paper's rules for today: 10 seeds, the search's winner kept out, any trunk."""

from dataclasses import replace

from protocols.protocol import SearchRule
from protocols.specs import reality_check

PROTOCOL = replace(
    reality_check.PROTOCOL,
    name="standard",
    version=1,
    summary="the paper's rules, winner kept out of the interval, every class validated once",
    trunk="resnet50",
    fold_rule="kfold",
    sampler="balanced",
    count_winner=False,
    search=SearchRule(trials=50, sampler="tpe", startup_trials=10),
)
