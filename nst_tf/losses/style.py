"""Style losses: statistics of activations over all positions, and a distance between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from nst_tf.losses.grain import grain_loss, jet_statistics
from nst_tf.losses.gram import gram_loss, gram_matrix
from nst_tf.losses.nearest import nearest_neighbor_loss, sampled_positions
from nst_tf.losses.sliced import sliced_quantiles, sliced_wasserstein_loss
from nst_tf.losses.wasserstein import gaussian_wasserstein_loss, raw_moments

Statistics = Any
"""A tensor or a nested structure of tensors, each [B, ...]."""


@dataclass(frozen=True)
class StyleLoss:
    """A style loss of one layer.

    Attributes:
        name: Its name in `STYLE_LOSSES`.
        statistics: From activations [B, H, W, C] and a mask, [B, H, W, 1] or None, to statistics,
            which can be compared with those of any other H and W.
        distance: From two statistics, the second also with a batch of 1, to the losses, [B].
        additive: Whether the statistics are means over positions. Those of several styles can then
            be averaged, and those of an image follow from those of its parts.
    """

    name: str
    statistics: Callable[[tf.Tensor, tf.Tensor | None], Statistics]
    distance: Callable[[Statistics, Statistics], tf.Tensor]
    additive: bool


GRAM = StyleLoss("gram", gram_matrix, gram_loss, additive=True)
"""L. A. Gatys, A. S. Ecker and M. Bethge (CVPR 2016), equations 3 to 5."""

MOMENTS = StyleLoss("moments", raw_moments, gaussian_wasserstein_loss, additive=True)
"""Mean and covariance: I. Olkin and F. Pukelsheim (1982), D. C. Dowson and B. V. Landau (1982)."""

SLICED_WASSERSTEIN = StyleLoss(
    "sliced_wasserstein", sliced_quantiles, sliced_wasserstein_loss, additive=False
)
"""Distributions: E. Heitz, K. Vanhoey, T. Chambon and L. Belcour (CVPR 2021)."""

NEAREST_NEIGHBORS = StyleLoss(
    "nearest_neighbors", sampled_positions, nearest_neighbor_loss, additive=False
)
"""Single positions: N. Kolkin et al. (2022); C. Li and M. Wand (CVPR 2016)."""

GRAIN = StyleLoss("grain", jet_statistics, grain_loss, additive=True)
"""Of differences of the pixels, `nst_tf.losses.jets`, beside one of those of activations."""

STYLE_LOSSES = {loss.name: loss for loss in (GRAM, MOMENTS, SLICED_WASSERSTEIN, NEAREST_NEIGHBORS)}
