"""Convolutions of large images on processors for which oneDNN has no other than a slow way."""

import itertools
import sys
from typing import Any

import keras
import tensorflow as tf

from nst_tf import system

_LARGEST_MATRIX = 2**29
"""Bytes. Of the matrix that has nine entries for each activation; 0.85 GB were seen to be fast."""

_STRIPS = 8


_LARGEST_SIDE = 800
"""Pixels of a square image for which no matrix is too large."""


def convolution_class(longest_side: float) -> type[keras.layers.Conv2D]:
    """Returns the class of convolutions that suits the processor and the images.

    It takes some seconds more to trace graphs with strips: small images have none.

    Args:
        longest_side: The longest side of all images, in pixels.
    """
    slow = sys.platform == "linux" and system.is_x86_without_avx512()
    return StripConv2D if slow and longest_side > _LARGEST_SIDE else keras.layers.Conv2D


@keras.saving.register_keras_serializable(package="nst_tf")
class StripConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras has no types
    """A 3 x 3 convolution, stride 1, channels last, in horizontal strips where it is large.

    Without AVX-512, oneDNN multiplies by a matrix of nine entries for each activation. Where this
    matrix would be too large, at about a million pixels, it takes reference code that is hundreds
    of times slower (seen in TensorFlow 2.21). In strips the time per pixel stays the same.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves [B, H, W, in] with [3, 3, in, out]."""
        entries = 9.0 * tf.cast(tf.size(inputs, tf.int64), tf.float32)
        is_large = entries * inputs.dtype.size > _LARGEST_MATRIX
        has_rows = tf.shape(inputs)[1] >= 2 * _STRIPS + 2
        whole = super().convolution_op
        result = tf.cond(
            tf.logical_and(is_large, has_rows),
            lambda: _in_strips(self._padded(inputs), kernel),
            lambda: whole(inputs, kernel),
        )
        result.set_shape(self.compute_output_shape(inputs.shape))
        return result

    def _padded(self, inputs: tf.Tensor) -> tf.Tensor:
        border = [[0, 0], [1, 1], [1, 1], [0, 0]]
        return tf.pad(inputs, border) if self.padding == "same" else inputs


def _in_strips(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves without padding; splits between rows, and repeats two of them at each cut.

    The gradient of `tf.split` is a concatenation: no strip's gradient is as large as the whole.
    """
    height = tf.shape(x)[1]
    rows = (height - 2) // _STRIPS
    sizes: list[Any] = [rows] * (_STRIPS - 1)
    parts = tf.split(x, [*sizes, height - (_STRIPS - 1) * rows], axis=1, num=_STRIPS)
    strips = [tf.concat([part, below[:, :2]], axis=1) for part, below in itertools.pairwise(parts)]
    convolved = [tf.nn.conv2d(strip, kernel, 1, "VALID") for strip in [*strips, parts[-1]]]
    return tf.concat(convolved, axis=1)
