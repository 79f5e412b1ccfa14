"""AdamW whose rates fall from the head down, for pretrained trunks that are easily forgotten.

Three quarters from layer to layer is what masked autoencoders fine-tune vision transformers with
(He et al., CVPR 2022, appendix A.1). Twelve blocks leave the first layer a fortieth of the rate.
"""

from dataclasses import replace

from protocols.recipes import adamw

RECIPE = replace(
    adamw.RECIPE,
    name="layerwise",
    summary="adamw, each layer of the trunk at 3/4 of the rate of the one above it",
    layer_decay=0.75,
)
