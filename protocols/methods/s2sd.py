"""S2SD on the mined Multi-Similarity loss, as published."""

from protocols.methods._s2sd import SelfDistilled
from protocols.methods.ms_miner import MultiSimilarityMined


class S2SD(SelfDistilled, MultiSimilarityMined):
    """Mined Multi-Similarity on the embedding and on four wider branches that it imitates.

    Defaults are those of the authors' released code: distil 50 at temperature 1, Multi-Similarity
    2, 40, 0.5 with mining at 0.1, branches of 4, 8, 12 and 16 times an embedding of 128, the
    features from 1,000 steps on, which is 0.13 of the budget. It trains from ImageNet weights
    with two images of a class in a batch of 112; whose features teach must know something, so
    from scratch a small ``distil`` is the safe end. Any other loss is distilled by
    ``class Mine(SelfDistilled, Loss)``.
    """
