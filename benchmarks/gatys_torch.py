"""The objective of Gatys et al. (2016) in PyTorch, written from the papers.

It is independent of the network and the losses of nst_tf, so that the two implementations check
each other. Only the reading and resizing of images is shared: both must be given the same pixels.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

import nst_tf
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import images

ImageArray = npt.NDArray[np.float32]

PRECISIONS = ("float32", "bfloat16")
CONTENT_LAYER = "block4_conv2"
STYLE_LAYERS = tuple(f"block{block}_conv1" for block in range(1, 6))

_WEIGHTS = Path(nst_tf.__file__).parent / "weights" / "vgg19_normalised.npz"
_MEANS_BGR = (103.939, 116.779, 123.68)
# Simonyan and Zisserman (2015), table 1, column E, as far as the deepest layer in use.
_LAYERS = [
    f"block{block}_conv{number}"
    for block, depth in enumerate((2, 2, 4, 4, 1), start=1)
    for number in range(1, depth + 1)
]


class Network:
    """VGG19 up to block5_conv1 with the trained parameters that nst_tf uses.

    Args:
        precision: Of the convolutions: "float32", or "bfloat16" by PyTorch's autocast.
        channels_last: Whether the channels of activations are innermost in memory.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = False) -> None:
        self._bfloat16 = precision == "bfloat16"
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._means = torch.tensor(_MEANS_BGR).reshape(1, 3, 1, 1)
        with np.load(_WEIGHTS) as file:
            self._parameters = {
                layer: (self._kernel(file[f"{layer}/kernel"]), _tensor(file[f"{layer}/bias"]))
                for layer in _LAYERS
            }

    def _kernel(self, kernel: npt.NDArray[np.floating]) -> Tensor:
        """Reorders [3, 3, in, out] to PyTorch's [out, in, 3, 3]."""
        return _tensor(kernel.transpose(3, 2, 0, 1)).contiguous(memory_format=self._format)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Computes the activations that the losses need.

        Args:
            image: RGB in [0, 255], [1, 3, H, W].

        Returns:
            Float32 activations after ReLU, [1, N, h, w], by the Keras name of the layer.
        """
        activations = {}
        x = (image.flip(1) - self._means).contiguous(memory_format=self._format)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            for layer in _LAYERS:
                if layer.endswith("conv1") and layer != _LAYERS[0]:
                    x = functional.max_pool2d(x, 2)
                x = functional.relu(functional.conv2d(x, *self._parameters[layer], padding=1))
                if layer == CONTENT_LAYER or layer in STYLE_LAYERS:
                    activations[layer] = x
        return {layer: x.float() for layer, x in activations.items()}


def content_loss(F: Tensor, P: Tensor) -> Tensor:
    """Mean squared difference of activations (equation 1, as a mean)."""
    return (F - P).square().mean()


def gram_matrix(F: Tensor) -> Tensor:
    """Gram matrix of [1, N, H, W] over its H W positions (equation 3 over their number)."""
    rows = F[0].flatten(1)
    return rows @ rows.T / rows.shape[1]


def style_loss(G: Tensor, A: Tensor) -> Tensor:
    """Mean squared difference of Gram matrices over N^2 (equation 4, as the authors weight it)."""
    return (G - A).square().mean() / G.shape[0] ** 2


class Objective:
    """Equation 7 with content weight 1 and without total variation.

    Args:
        network: From an image to its activations.
        content: RGB [H, W, 3] in [0, 255], at the size of the result.
        style: RGB [h, w, 3] in [0, 255].
        style_weight: The weight of each layer's style loss.
    """

    def __init__(
        self, network: Network, content: ImageArray, style: ImageArray, style_weight: float
    ) -> None:
        self._network = network
        self._style_weight = style_weight
        with torch.no_grad():
            self._P = network(as_tensor(content))[CONTENT_LAYER]
            activations = network(as_tensor(style))
            self._A = {layer: gram_matrix(activations[layer]) for layer in STYLE_LAYERS}

    def terms(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the weighted content and style losses of RGB [1, 3, H, W] in [0, 255]."""
        F = self._network(image)
        style = torch.stack(
            [style_loss(gram_matrix(F[layer]), A) for layer, A in self._A.items()]
        ).sum()
        return content_loss(F[CONTENT_LAYER], self._P), self._style_weight * style

    def backward(self, image: Tensor) -> float:
        """Computes the loss and puts its gradient in place of `image.grad`."""
        image.grad = None
        content, style = self.terms(image)
        loss = content + style
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def read_pair(content: Path, style: Path, image_size: int) -> tuple[ImageArray, ImageArray]:
    """Reads the two images and resizes each to have `image_size` as its longer side."""

    def at_size(path: Path) -> ImageArray:
        image = images.read(path)
        height, width = image.shape[:2]
        return resize(image, resized_shape((height, width), image_size))

    return at_size(content), at_size(style)


def as_tensor(image: npt.NDArray[np.floating]) -> Tensor:
    """Turns [H, W, 3] into float32 [1, 3, H, W]."""
    return _tensor(np.moveaxis(image, 2, 0)[np.newaxis])


def as_image(tensor: Tensor) -> ImageArray:
    """Turns [1, 3, H, W] into [H, W, 3]."""
    image: ImageArray = np.moveaxis(tensor.detach().numpy()[0], 0, 2)
    return image


def _tensor(array: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
