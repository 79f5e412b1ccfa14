"""S2SD on the mined Multi-Similarity loss, as published."""

from protocols.methods._s2sd import SelfDistilled
from protocols.methods.ms_miner import MultiSimilarityMined


class S2SD(SelfDistilled, MultiSimilarityMined):
    """Mined Multi-Similarity on the embedding and on four wider branches that it imitates.

    Defaults are the settings of the authors' runs on CUB: distil 50 at temperature 1,
    Multi-Similarity 2, 40, 0.5 with mining at 0.1, branches of 4, 8, 12 and 16 times an embedding
    of 128, the features from 1,000 steps on, which is 0.13 of the budget. They train from ImageNet
    weights with two images of a class in a batch of 112; whose features teach must know something,
    so from scratch a small ``distil`` is the safe end. Their Multi-Similarity seems to be a mean
    over the anchors that mining keeps (it is in their older code), ours is one over the batch, so
    where few are kept, distillation weighs more here. Any other loss is distilled by
    ``class Mine(SelfDistilled, Loss)``.

    Their runs on SOP are other ones, which this method cannot repeat: the margin loss with
    distance-weighted mining, the features at a weight of 5 and from 0.0125 of the budget on, and
    branches on the map's average alone.
    """
