"""The two terms of ViSpeak's loss: next-token cross-entropy of the agent stream, focal loss of the informative head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100


def focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss, mean over labelled positions; labels are 1, 0 or IGNORE, in the shape of the logits.

    Positives weigh alpha, negatives 1 - alpha. Without any label it is a zero that still carries a gradient.
    """
    known = labels != IGNORE
    if not bool(known.any()):
        return logits.sum() * 0.0
    chosen, truth = logits[known].float(), labels[known].float()
    entropy = functional.binary_cross_entropy_with_logits(chosen, truth, reduction="none")
    right = torch.where(truth > 0, chosen.sigmoid(), 1 - chosen.sigmoid())
    weight = torch.where(truth > 0, alpha, 1 - alpha)
    return (weight * (1 - right) ** gamma * entropy).mean()


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy of position p's logits against position p+1's target, mean over targets that are not IGNORE."""
    flat = logits_BTV[:, :-1].reshape(-1, logits_BTV.shape[-1]).float()
    return functional.cross_entropy(flat, targets_BT[:, 1:].reshape(-1), ignore_index=IGNORE)
