"""The paper's rules, literally, on made images: its search, patience, folds and seeds.

The pace keeps the shape of the paper's for CUB-200-2011: a training that never improves may stop
after a tenth of its steps, before an eighth of them, where Group Loss begins.
"""

from dataclasses import replace

from protocols.protocol import ImagePipeline, Pace
from protocols.specs import reality_check

PACE = Pace(max_steps=48, steps_per_epoch=1, validate_every=1, patience=4)
PROTOCOL = replace(
    reality_check.PROTOCOL,
    name="reality_shaped",
    wants_weights=False,
    summary="the paper's rules on made images at 16 px: for tests",
    label="made images: shows that the machinery runs",
    datasets=("toy",),
    trunk="tiny",
    baseline="ms",
    image=ImagePipeline(resize_px=16, crop_px=16, area=(0.16, 1.0), aspect=(0.75, 1.33)),
    pace=PACE,
    paces={},
    search=replace(reality_check.PROTOCOL.search, trials=6),
    batch_size=16,
    embedding_size=16,
    timeout_s=120.0,
)
