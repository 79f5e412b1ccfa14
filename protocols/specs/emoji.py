"""A real study on the embedded emoji set: the paper's shape with a full budget."""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="emoji",
    version=3,
    summary="4 folds, 50 trials, 10 seeds on emoji at 64 px: a real study, days on a laptop",
    datasets=("emoji",),
    trunk="tiny",
    recipe="adam",
    reference="untrained",
    baseline="triplet",
    folds=4,
    image=ImagePipeline(resize_px=64, crop_px=64, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=2000, steps_per_epoch=100, validate_every=100, patience=4),
    search=SearchRule(trials=50, startup_trials=10),
    seeds=10,
    timeout_s=3600.0,
)
