"""The whole protocol at the smallest size that still learns: minutes on two CPU cores."""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="quick",
    version=3,
    summary="2 folds, 3 trials, 3 seeds on emoji at 32 px: a pipeline check in minutes",
    label="pipeline check: budgets this small rank nothing",
    datasets=("emoji",),
    trunk="tiny",
    recipe="adam",
    reference="untrained",
    baseline="triplet",
    folds=2,
    image=ImagePipeline(resize_px=32, crop_px=32, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=500, steps_per_epoch=50, validate_every=125, patience=2),
    search=SearchRule(trials=3, startup_trials=2),
    seeds=3,
    timeout_s=600.0,
)
