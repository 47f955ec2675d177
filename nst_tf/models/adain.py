"""Adaptive instance normalization: style transfer in one pass of a trained decoder.

X. Huang and S. Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization" (ICCV 2017).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf import system
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray
from nst_tf.image.color import match_color_moments
from nst_tf.image.masks import Mask, resize_mask
from nst_tf.image.tiles import assemble, split
from nst_tf.models.vgg19 import convolution, vgg19_features
from nst_tf.models.weights import load_adain_decoder

Array = npt.NDArray[Any]

ENCODER_LAYER = "block4_conv1"
STRIDE = 8
"""Pixels per position of the layer, after three poolings."""

_ENCODER_HALO = 32
_DECODER_HALO = 4
"""What a part of the result depends on around it: 30 pixels of the image and 3.75 positions of the
layer, rounded up to the strides."""

_ROWS = 128
"""Rows of activations whose moments are computed at once."""

_UPSAMPLED = (1, 5, 7)
_EPSILON = 1e-5

_COLOR_CORRECTION = 0.7
"""How far the decoder's colors, which are duller than the style's, are moved towards those.

Ten iterations from there at 512 px the loss is 3 % lower than without, in the mean of five pairs:
4, 14 and 6 % lower on three, 4 % higher on two. Moved by 0.3, 0.5 or all of the way it is 1, 3, or
2 %.
"""


class Moments(NamedTuple):
    """First and second moments of each channel over all positions.

    Attributes:
        mean: [B, 1, 1, C].
        deviation: The standard deviation, [B, 1, 1, C].
    """

    mean: tf.Tensor
    deviation: tf.Tensor


def moments(features: tf.Tensor) -> Moments:
    """Computes the moments of activations.

    Args:
        features: [B, H, W, C].

    Returns:
        The moments in float32.
    """
    mean, variance = tf.nn.moments(tf.cast(features, tf.float32), [1, 2], keepdims=True)
    return Moments(mean, tf.sqrt(variance + _EPSILON))


def pooled(parts: Sequence[Moments], sizes: Sequence[float]) -> Moments:
    """Computes the moments of an image from those of its parts.

    Args:
        parts: Of each part.
        sizes: How much of the image each is.

    Returns:
        The moments in float32.
    """
    shares = np.asarray(sizes, np.float64) / np.sum(sizes)
    means = [np.asarray(part.mean, np.float64) for part in parts]
    squares = [np.asarray(part.deviation, np.float64) ** 2 for part in parts]
    mean = sum(share * each for share, each in zip(shares, means, strict=True))
    variance = sum(
        share * (square + (each - mean) ** 2)
        for share, each, square in zip(shares, means, squares, strict=True)
    )
    return Moments(*(tf.constant(found, tf.float32) for found in (mean, np.sqrt(variance))))


def blend(all_moments: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """Averages moments; `adain` of the average is the average of `adain` of each.

    Args:
        all_moments: Of several images.
        weights: The weight of each; they sum to 1.

    Returns:
        The weighted means of the means and of the deviations.
    """
    mean, deviation = (
        tf.add_n([weight * part for weight, part in zip(weights, parts, strict=True)])
        for parts in zip(*all_moments, strict=True)
    )
    return Moments(mean, deviation)


def adain(content: tf.Tensor, style: Moments, own: Moments | None = None) -> tf.Tensor:
    """Adaptive instance normalization (equation 8).

    Args:
        content: Activations, [B, H, W, C].
        style: The moments that each channel is to have.
        own: The moments of the activations; those of the whole, where `content` is a part.

    Returns:
        The activations with these moments, float32 [B, H, W, C].
    """
    mean, deviation = own or moments(content)
    return (tf.cast(content, tf.float32) - mean) / deviation * style.deviation + style.mean


class AdaIN:
    """Style transfer with an encoder, `adain` and a decoder; built once, for images of any size.

    Args:
        encoder: From images [1, H, W, 3] to a dictionary with the activations of "block4_conv1".
            By default VGG19 with normalised weights and reflect padding, which the decoder was
            trained with; it is built when it is first needed.
        decoder: Parameters of the decoder, by default those of `load_adain_decoder`.
        dtype: "float32" or "bfloat16", of decoder and default encoder.
        convolutions: The class of their convolutions.
    """

    def __init__(
        self,
        encoder: Callable[[tf.Tensor], Mapping[str, tf.Tensor]] | None = None,
        decoder: Mapping[str, npt.NDArray[Any]] | None = None,
        dtype: str = "float32",
        convolutions: type[keras.layers.Conv2D] = keras.layers.Conv2D,
    ) -> None:
        self._dtype = dtype
        self._convolutions = convolutions
        self._encode = None if encoder is None else _encoding(encoder)
        self._decode = _decoding(decoder or load_adain_decoder().arrays, dtype, convolutions)

    def __call__(
        self,
        content: ImageArray,
        styles: Sequence[ImageArray],
        blend_weights: Sequence[float] = (1.0,),
        strength: float = 1.0,
        *,
        content_features: tf.Tensor | None = None,
        style_moments: Sequence[Moments] | None = None,
        style_masks: Sequence[Mask | None] | None = None,
        tile_size: Callable[[tuple[int, int]], int] = lambda shape: 0,
    ) -> ImageArray:
        """Transfers the styles' moments of activations to a content image, then their colors.

        What another network has already computed can be given and is then not computed again.

        Args:
            content: RGB in [0, 255], [H, W, 3], with both sides at least 8.
            styles: RGB in [0, 255], each [h, w, 3].
            blend_weights: The weight of each style; they sum to 1.
            strength: From 0, the content itself, over 1, the style's moments, to 2, where the
                result takes the place of the content once more. Between them, a part of the detail
                that the decoder does not render is added.
            content_features: The content's activations of "block4_conv1", [1, H // 8, W // 8, 512].
                The result is the same where 8 divides both sides; otherwise up to 7 pixels at the
                right and at the bottom continue what is beside them.
            style_moments: The moments of each style's activations of "block4_conv1".
            style_masks: What of each style counts, of its size, [h, w] in [0, 1], or None for all.
            tile_size: From height and width of an image to the longest side of the tiles in which
                it is computed, a multiple of 16, or 0 for none.

        Returns:
            RGB float32 in [0, 255], [H, W, 3].
        """
        if not strength:
            return content
        if strength > 1.0:
            once = self(
                content,
                styles,
                blend_weights,
                content_features=content_features,
                style_moments=style_moments,
                style_masks=style_masks,
                tile_size=tile_size,
            )
            return self(
                once,
                styles,
                blend_weights,
                strength - 1.0,
                style_moments=style_moments,
                style_masks=style_masks,
                tile_size=tile_size,
            )
        height, width = content.shape[:2]
        excess = [(0, -height % STRIDE), (0, -width % STRIDE), (0, 0)]
        if content_features is None:
            padded = np.pad(content, excess, mode="reflect")
            features = self._encoded(padded, tile_size(content.shape[:2]))
        else:
            features = np.pad(content_features[0], np.sign(excess), "symmetric")
        own = _moments_of(features)
        masks = style_masks or [None] * len(styles)
        if style_moments is None:
            style_moments = [
                _moments_of(_inside(self._encoded(style, tile_size(style.shape[:2])), mask))
                for style, mask in zip(styles, masks, strict=True)
            ]
        colors = [_inside(style, mask) for style, mask in zip(styles, masks, strict=True)]
        styled = blend(style_moments, blend_weights)

        def rendered(strength: float) -> ImageArray:
            target = blend([own, styled], [1.0 - strength, strength])
            decoded = self._decoded(features, own, target, tile_size(content.shape[:2]))
            decoded = decoded[:height, :width]
            shares = [1.0 - strength, *(strength * weight for weight in blend_weights)]
            corrected = sum(
                share * match_color_moments(decoded, reference)
                for share, reference in zip(shares, [content, *colors], strict=True)
                if share
            )
            image: ImageArray = decoded + _COLOR_CORRECTION * (corrected - decoded)
            return image

        image = rendered(strength)
        if strength < 1.0:
            lost = rendered(0.0)  # becomes what of the content the decoder does not return
            np.subtract(content, lost, out=lost)
            lost *= 1.0 - strength
            image += lost
        return np.clip(image, *PIXEL_RANGE, out=image)

    def _encoded(self, image: ImageArray, tile_size: int) -> Array:
        """Computes activations, [H // 8, W // 8, C], tile by tile."""
        if self._encode is None:
            self._encode = _encoding(
                vgg19_features(
                    [ENCODER_LAYER],
                    padding="reflect",
                    dtype=self._dtype,
                    convolutions=self._convolutions,
                )
            )
        tiles = split(image.shape[:2], tile_size or max(image.shape), STRIDE, _ENCODER_HALO)
        features = assemble(self._encode, image, tiles, down=STRIDE)
        system.release_memory()
        return features

    def _decoded(
        self, features: Array, own: Moments, target: Moments, tile_size: int
    ) -> ImageArray:
        """Gives activations, [h, w, C], other moments and decodes them to [8 h, 8 w, 3]."""
        size = tile_size // STRIDE or max(features.shape)
        tiles = split(features.shape[:2], size, 1, _DECODER_HALO)
        image = assemble(
            lambda tile: self._decode(adain(tile, target, own)), features, tiles, up=STRIDE
        )
        system.release_memory()
        return image


def _inside(array: Array, mask: Mask | None) -> Array:
    """Takes what a mask shows of activations or pixels, [h, w, C]; [n, 1, C] of n positions."""
    if mask is None:
        return array
    mask = resize_mask(mask, array.shape[:2])
    return array[mask >= min(0.5, float(mask.max()))][:, np.newaxis]


def _moments_of(features: Array) -> Moments:
    """Computes the moments of activations, [H, W, C], a part of the rows after the other."""
    parts = np.array_split(features, -(-len(features) // _ROWS))
    return pooled([moments(part[np.newaxis]) for part in parts], [len(part) for part in parts])


def _encoding(encoder: Callable[[tf.Tensor], Mapping[str, tf.Tensor]]) -> Callable[..., Any]:
    """Returns a graph from images, [1, H, W, 3], to activations in float32."""

    def encode(image: tf.Tensor) -> tf.Tensor:
        return tf.cast(encoder(image)[ENCODER_LAYER], tf.float32)

    return _graph(encode, channels=3)


def _decoding(
    parameters: Mapping[str, npt.NDArray[Any]],
    dtype: str,
    convolutions: type[keras.layers.Conv2D],
) -> Callable[..., Any]:
    """Returns a graph from activations, [1, h, w, 512], to images, [1, 8 h, 8 w, 3]."""
    model = build_decoder(parameters, dtype, convolutions)

    def decode(features: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(255.0 * model(features), 0.0, 255.0)

    return _graph(decode, channels=model.input.shape[-1])


def _graph(function: Callable[..., Any], channels: int) -> Callable[..., Any]:
    # A concrete function: TensorFlow warns of other functions that are traced often.
    signature = tf.TensorSpec([1, None, None, channels], tf.float32)
    graph = tf.function(function, autograph=False).get_concrete_function(signature)
    return lambda array: graph(tf.convert_to_tensor(array, tf.float32))


def build_decoder(
    parameters: Mapping[str, npt.NDArray[Any]],
    dtype: str,
    convolutions: type[keras.layers.Conv2D] = keras.layers.Conv2D,
) -> keras.Model:
    """Builds the decoder (section 6.1).

    It mirrors the encoder, with nearest-neighbor upsampling for poolings and reflect padding.

    Args:
        parameters: `convN/kernel` and `convN/bias` for N from 1 to 9.
        dtype: "float32", or "bfloat16" for all convolutions but the last.
        convolutions: The class of the convolutions.

    Returns:
        A model from activations of "block4_conv1", [B, h, w, 512], to RGB, float32
        [B, 8 h, 8 w, 3], about in [0, 1]; not trainable.
    """
    inputs = parameters["conv1/kernel"].shape[2]
    x = features = keras.Input((None, None, inputs), dtype="float32", name="features")
    last = len(parameters) // 2
    for number in range(1, last + 1):
        x = convolution(
            x,
            parameters[f"conv{number}/kernel"],
            parameters[f"conv{number}/bias"],
            padding="reflect",
            activation=None if number == last else "relu",
            dtype="float32" if number == last else dtype,
            name=f"conv{number}",
            kind=convolutions,
        )
        if number in _UPSAMPLED:
            x = keras.layers.UpSampling2D(2, data_format="channels_last", dtype=x.dtype)(x)
    model = keras.Model(features, x, name="adain_decoder")
    model.trainable = False
    return model
