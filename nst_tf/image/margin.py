"""A margin around an image, which is optimized with it and cut off.

A strip of color along the border has one edge where one inside the image has two, so that it costs
less content loss, and its colors become too strong. In the margin it is not seen. The style is
compared inside the margin only: what is cut off would otherwise take a part of the style with it,
the more the longer the optimization.
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def extend(array: npt.NDArray[Any], margin: int) -> npt.NDArray[Any]:
    """Reflects an image or a mask beyond its borders.

    Args:
        array: [H, W] or [H, W, C].
        margin: Pixels that are added on each side.

    Returns:
        [H + 2 margin, W + 2 margin] or the same with C; the array itself where there is no margin.
    """
    if not margin:
        return array
    sides = [(margin, margin)] * 2 + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, sides, mode="reflect")


def within(shape: tuple[int, int], margin: int) -> npt.NDArray[np.float32]:
    """Returns the mask of an image within its margin, [H + 2 margin, W + 2 margin].

    Args:
        shape: Height and width of the image.
        margin: Pixels on each side.
    """
    return np.pad(np.ones(shape, np.float32), margin)


def crop(array: npt.NDArray[Any], margin: int) -> npt.NDArray[Any]:
    """Cuts a margin off.

    Args:
        array: [H, W] or [H, W, C], each side longer than two margins.
        margin: Pixels that are cut off on each side.

    Returns:
        A view of the inner [H - 2 margin, W - 2 margin].
    """
    height, width = array.shape[:2]
    return array[margin : height - margin, margin : width - margin]
