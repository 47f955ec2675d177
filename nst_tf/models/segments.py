"""Consecutive parts of VGG19, each of which needs a narrow border only around what it computes.

A tile of an image needs 150 pixels around it for the deepest layer of a style loss. Of a part of
the network that begins at a stored map it needs as much as its own convolutions see.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras

CUTS = ("block3_pool",)
"""Layers whose activations are stored between two parts.

The three blocks at high resolution take most of the memory per pixel; the last two, which see
furthest, take a seventh of it, so that their tiles are larger.
"""


class Segment(NamedTuple):
    """A part of a network.

    Attributes:
        model: From its input, [B, H, W, C], to a dictionary of activations, [B, h, w, N].
        stride: Pixels per position of its input.
        halo: Positions around a part of its input that the activations there depend on, rounded up
            to a multiple of its poolings.
        strides: Positions of its input per position of the activations, by their layer.
        output: The layer that the next part begins with, or None at the end.
    """

    model: keras.Model
    stride: int
    halo: int
    strides: dict[str, int]
    output: str | None

    @property
    def output_stride(self) -> int:
        """Positions of its input per position of the map for the next part."""
        return self.strides[self.output] if self.output else 1


def segments(network: keras.Model, cuts: Sequence[str] = CUTS) -> list[Segment]:
    """Splits a network such as `nst_tf.models.vgg19_features` makes.

    Args:
        network: A chain of 3 x 3 convolutions of stride 1 and of poolings that halve, with a
            dictionary of outputs.
        cuts: Names of the poolings after which it is split; others are passed over.

    Returns:
        The parts in order, of the same layers and weights.
    """
    known = {layer.name: layer for layer in network.layers}
    wanted = [cut for cut in cuts if cut in known]
    found: list[Segment] = []
    start, stride = network.inputs[0], 1
    chain = list(network.layers)
    for cut in [*wanted, None]:
        end = len(chain) if cut is None else [layer.name for layer in chain].index(cut) + 1
        part, chain = chain[:end], chain[end:]
        halo, position, strides = 0, 1, {}
        for layer in part:
            if isinstance(layer, keras.layers.Conv2D):
                halo += position
            elif isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
                position *= 2
            if layer.name in network.output or layer.name == cut:
                strides[layer.name] = position
        outputs = {name: known[name].output for name in strides}
        model = keras.Model(start, outputs)
        found.append(Segment(model, stride, -(-halo // position) * position, strides, cut))
        if cut is not None:
            start, stride = known[cut].output, stride * position
    return found
