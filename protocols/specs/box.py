"""A real study on the four datasets that ship: 16 methods in four hours on two cores.

Measured on a core of an AMD EPYC: 7.4 CPU seconds a training of most methods on ``kanji`` (16 of
``softtriple``). A training of ``hier`` took 12 seconds with 20 ancestors and 230 with 438, two at
once on an Intel Xeon. A method takes 60 trainings on each set, so 16 methods on four sets take 4
hours of two quiet cores. ``plan`` measures the machine at hand.

400 steps take MAP@R of validation classes from 0.01 to 0.15 to 0.21 on ``kanji`` and from 0.005 to
0.05 on ``objects`` (``triplet`` and ``ms`` at their defaults). Every training takes all of them:
there are too few validations for patience to end one, so no method gets fewer.
"""

from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule

PROTOCOL = Protocol(
    name="box",
    version=1,
    summary="2 folds, 20 trials, 10 seeds on the four sets that ship, 32 px: a real study in hours",
    datasets=("emoji", "kanji", "products", "objects"),
    trunk="tiny",
    recipe="adam",
    reference="untrained",
    baseline="triplet",
    folds=2,
    image=ImagePipeline(resize_px=32, crop_px=32, area=(0.5, 1.0), flip=0.0),
    pace=Pace(max_steps=400, steps_per_epoch=50, validate_every=200, patience=2),
    search=SearchRule(trials=20, startup_trials=8),
    seeds=10,
    timeout_s=1800.0,
)
