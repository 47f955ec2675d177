"""Loss terms of style transfer as pure functions of tensors, and a Keras loss made of them.

All functions take batches, keep float32 and float64, compute bfloat16 and float16 in float32, and
work inside `tf.function`.
"""

from nst_tf.losses.content import content_loss
from nst_tf.losses.gram import gram_loss, gram_matrix
from nst_tf.losses.perceptual import PerceptualLoss
from nst_tf.losses.style import GRAM, STYLE_LOSSES, StyleLoss
from nst_tf.losses.total_variation import total_variation_loss

__all__ = [
    "GRAM",
    "STYLE_LOSSES",
    "PerceptualLoss",
    "StyleLoss",
    "content_loss",
    "gram_loss",
    "gram_matrix",
    "total_variation_loss",
]
