"""Loss terms of style transfer as pure functions of tensors, and a Keras loss made of them.

All functions take batches, keep float32 and float64, compute bfloat16 and float16 in float32, and
work inside `tf.function`.
"""

from nst_tf.losses.content import content_loss
from nst_tf.losses.grain import Grain, grain_loss, jet_statistics, jets
from nst_tf.losses.gram import gram_loss, gram_matrix
from nst_tf.losses.nearest import nearest_neighbor_loss, sampled_positions
from nst_tf.losses.perceptual import PerceptualLoss
from nst_tf.losses.sliced import sliced_quantiles, sliced_wasserstein_loss
from nst_tf.losses.style import GRAIN, GRAM, STYLE_LOSSES, StyleLoss
from nst_tf.losses.temporal import temporal_loss
from nst_tf.losses.total_variation import total_variation_loss
from nst_tf.losses.wasserstein import gaussian_wasserstein_loss, raw_moments

__all__ = [
    "GRAIN",
    "GRAM",
    "STYLE_LOSSES",
    "Grain",
    "PerceptualLoss",
    "StyleLoss",
    "content_loss",
    "gaussian_wasserstein_loss",
    "grain_loss",
    "gram_loss",
    "gram_matrix",
    "jet_statistics",
    "jets",
    "nearest_neighbor_loss",
    "raw_moments",
    "sampled_positions",
    "sliced_quantiles",
    "sliced_wasserstein_loss",
    "temporal_loss",
    "total_variation_loss",
]
