"""A classifier that only training needs: logits, label smoothing, temperature."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Classify(nn.Module):
    """Smoothed cross entropy of a linear classifier on (B, width) rows.

    Args:
        width: of the rows.
        classes: C; smoothing is spread evenly over all of them, the true one included.
        smoothing: share of the truth that is spread.
        temperature: divides the logits.
        norm: BatchNorm before the classifier.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        smoothing: float,
        temperature: float = 1.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.classifier = nn.Linear(width, classes)
        self.smoothing, self.temperature = smoothing, temperature

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the () mean loss."""
        logits = self.logits(rows) / self.temperature
        return cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def logits(self, rows: Tensor) -> Tensor:
        """Return (B, C)."""
        found: Tensor = self.classifier(self.norm(rows))
        return found
