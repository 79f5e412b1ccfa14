"""Your own photographs on a pretrained trunk: a day on a laptop, hours on a GPU.

The reckoning, for MobileNetV2 at 224 px: 6 trials and 5 runs on 2 folds are 22 trainings of at
most 400 steps for every method. A step of 32 images takes 2 to 3 seconds of one core, so a method
takes 5 to 7 core hours, and embedding an image takes 0.03 s: another hour for a few thousand
images. Three methods fill a day of two cores. ``plan`` measures the machine at hand.
"""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="photos",
    version=1,
    summary="2 folds, 6 trials, 5 seeds at 224 px: own photographs on a pretrained trunk",
    datasets=(),
    trunk="mobilenet_v2",
    recipe="adamw",
    reference="untrained",
    baseline="triplet",
    fold_rule="kfold",
    folds=2,
    image=ImagePipeline(resize_px=256, crop_px=224, area=(0.3, 1.0)),
    pace=Pace(max_steps=400, steps_per_epoch=50, validate_every=100, patience=2),
    search=SearchRule(trials=6, startup_trials=3),
    seeds=5,
    timeout_s=21600.0,
    wants_weights=True,
)
