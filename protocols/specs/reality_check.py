"""The paper: BN-Inception, 4 folds, 50 trials by a Gaussian process, 10 runs.

One thing is not the paper's: its intervals count the search's winning trial as a further run,
which lifts a mean a little. Here every run is a fresh one.
"""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

# Patience is counted in validations: the paper stops once more than 9, 14 or 39 epochs of 100
# steps have passed, validating every 2, 5 or 20 of them.
CUB = Pace(max_steps=100_000, steps_per_epoch=100, validate_every=200, patience=4)
CARS = Pace(max_steps=100_000, steps_per_epoch=100, validate_every=500, patience=2)
SOP = Pace(max_steps=100_000, steps_per_epoch=100, validate_every=2000, patience=1)

PROTOCOL = Protocol(
    name="reality-check",
    version=3,
    summary="A Metric Learning Reality Check, as its code runs it",
    datasets=("cub200", "cars196", "sop"),
    trunk="bn_inception",
    recipe="paper",
    reference="untrained",
    baseline="contrastive",
    folds=4,
    image=ImagePipeline(resize_px=256, crop_px=227, area=(0.16, 1.0), aspect=(0.75, 1.33)),
    pace=CUB,
    paces={"cub200": CUB, "cars196": CARS, "sop": SOP},
    search=SearchRule(trials=50, sampler="gp", startup_trials=5),
    seeds=10,
    sampler="m_per_class",
    wants_weights=True,
)
