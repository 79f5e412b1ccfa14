"""Own photographs on a pretrained trunk: a day on a laptop, hours on a GPU.

The reckoning, for MobileNetV2 at 224 px: a training of 400 steps of 32 images forward and
backward, 2 folds, 6 trials and 5 runs are 22 trainings for every method. One step takes about
1.1 s of a laptop's core, so a method takes 2.7 core hours, and embedding the validation and test
images of a few hundred classes about as much again where there are thousands of them. On a GPU a
step takes about 20 ms. ``plan`` measures both on the machine at hand.
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
)
