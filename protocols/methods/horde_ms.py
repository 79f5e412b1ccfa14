"""HORDE over the multi-similarity loss: the same loss on the embedding and on its moments."""

from protocols.methods._horde import HighOrder
from protocols.methods.ms import MultiSimilarity


class HordeMultiSimilarity(HighOrder, MultiSimilarity):
    """Multi-similarity on orders 1 to K."""
