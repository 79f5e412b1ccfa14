"""The paper's rules at a size for tests: its folds, sampler and search, a few small steps."""

from dataclasses import replace

from protocols.protocol import ImagePipeline, Pace
from protocols.specs import reality_check

PACE = Pace(max_steps=6, steps_per_epoch=3, validate_every=3, patience=4)
PROTOCOL = replace(
    reality_check.PROTOCOL,
    name="paper_shaped",
    summary="the paper's rules, six steps at 32 px: for tests",
    label="six steps: shows that the machinery runs",
    image=ImagePipeline(resize_px=36, crop_px=32, area=(0.16, 1.0), aspect=(0.75, 1.33)),
    pace=PACE,
    paces={},
    search=replace(reality_check.PROTOCOL.search, trials=2, startup_trials=1),
    wants_weights=False,
    seeds=1,
    batch_size=16,
    timeout_s=600.0,
)
