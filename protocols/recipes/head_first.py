"""AdamW that first trains the head alone, as Proxy-Anchor, HIST and HIER begin.

A head without weights sends rough gradients down; the trunk waits until it has settled.
"""

from dataclasses import replace

from protocols.recipes import adamw

RECIPE = replace(
    adamw.RECIPE,
    name="head_first",
    summary="adamw, the trunk as it was loaded for the first hundred steps",
    head_first_steps=100,
)
