"""The noise of an image: its response to second differences across and down, in each channel.

A slope, a straight edge across or down, and strokes of several pixels give little of it; single
pixels that differ from their neighbors give most.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_tf.image.arrays import ImageArray, quantize

CHANNELS = ("Y", "Cb", "Cr")
Noise = Mapping[str, Mapping[str, float]]
_SECOND_DIFFERENCE = (0.25, -0.5, 0.25)


def noise(image: ImageArray) -> Noise:
    """Measures the noise of an image as it is when saved in 8 bits.

    The channels are those of JPEG files (ITU-R BT.601, full range), rounded to integers as Pillow
    does; rounding alone has a root mean square of about 0.11 in a channel.

    Args:
        image: RGB [H, W, 3] in [0, 255], each side at least 3.

    Returns:
        The root mean square over all positions, "rms", and the median of the absolute values,
        "median", by channel.
    """
    channels = np.asarray(Image.fromarray(quantize(image)).convert("YCbCr"), np.float64)
    response = np.abs(_differences(_differences(channels).swapaxes(0, 1)))
    rms, median = np.sqrt(np.mean(response**2, (0, 1))), np.median(response, (0, 1))
    return {
        "rms": dict(zip(CHANNELS, rms.tolist(), strict=True)),
        "median": dict(zip(CHANNELS, median.tolist(), strict=True)),
    }


def _differences(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns second differences along the first axis, where all three values are inside."""
    before, at, after = _SECOND_DIFFERENCE
    return before * x[:-2] + at * x[1:-1] + after * x[2:]
