"""Emoji for pretrained trunks: fewer and gentler steps than a trunk from scratch needs."""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="finetune",
    version=3,
    summary="2 folds, 3 trials, 3 seeds on emoji at 64 px: a pretrained trunk, under an hour",
    label="small budget: a first look",
    datasets=("emoji",),
    trunk="mobilenet_v2",
    recipe="adamw",
    reference="untrained",
    baseline="triplet",
    folds=2,
    image=ImagePipeline(resize_px=64, crop_px=64, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=200, steps_per_epoch=50, validate_every=50, patience=2),
    search=SearchRule(trials=3, startup_trials=2),
    seeds=3,
    timeout_s=3600.0,
    wants_weights=True,
)
