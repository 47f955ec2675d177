"""Loss terms of style transfer as pure functions of activations and pixels."""

from nst_tf.losses.gram import content_loss, gram_matrix, style_loss, total_variation_loss

__all__ = ["content_loss", "gram_matrix", "style_loss", "total_variation_loss"]
