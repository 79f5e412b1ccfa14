"""The machinery in seconds, on made images: for tests and for a first look at a new method."""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="toy",
    version=3,
    summary="2 folds, 2 trials, 2 seeds on made images at 16 px: seconds; shows nothing",
    label="made images: shows that the machinery runs, nothing else",
    datasets=("toy",),
    trunk="tiny",
    recipe="adam",
    reference="untrained",
    baseline="triplet",
    folds=2,
    image=ImagePipeline(resize_px=16, crop_px=16, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=40, steps_per_epoch=5, validate_every=20, patience=1),
    search=SearchRule(trials=2, startup_trials=1),
    seeds=2,
    batch_size=16,
    class_images_per_class=2,
    embedding_size=32,
    eval_batch=64,
    timeout_s=120.0,
)
