"""Optical flow between two images, images moved along it, and where it can be trusted.

A flow from one image to another is float32 [H, W, 2]: of each pixel of the one, how many pixels to
the right and downward its match in the other is. OpenCV, which is imported when it is needed, is an
optional dependency.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf import system
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray, quantize

Flow = npt.NDArray[np.float32]
"""[H, W, 2], in pixels: to the right, downward."""

Trust = npt.NDArray[np.float32]
"""[H, W], 1 where a pixel's match is known and 0 elsewhere."""


def opencv() -> Any:
    """Imports OpenCV.

    Raises:
        MachineError: It is not installed.
    """
    return system.optional_module("cv2", "opencv-python-headless", "process a video", "video")


def optical_flow(image: ImageArray, other: ImageArray) -> Flow:
    """Estimates the flow from one image to another with DIS.

    T. Kroeger, R. Timofte, D. Dai and L. Van Gool, "Fast Optical Flow using Dense Inverse Search"
    (ECCV 2016), as implemented in OpenCV.

    Args:
        image: RGB [H, W, 3] in [0, 255].
        other: The other image, of the same size.

    Returns:
        The flow.
    """
    cv2 = opencv()
    gray, other_gray = (
        cv2.cvtColor(quantize(each).astype(np.uint8), cv2.COLOR_RGB2GRAY) for each in (image, other)
    )
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    flow: Flow = dis.calc(gray, other_gray, None)
    return flow


def warp(values: npt.NDArray[np.float32], flow: Flow) -> npt.NDArray[np.float32]:
    """Moves values backward along a flow: each pixel gets the value at its match.

    Args:
        values: [H, W, C] or [H, W], of the image that the flow leads to.
        flow: From the image that is wanted to that one.

    Returns:
        The same shape: values at x + flow(x), interpolated bicubically; outside, those of the
        nearest pixel.
    """
    cv2 = opencv()
    x, y = (np.ascontiguousarray(each) for each in np.moveaxis(_matches(flow), 2, 0))
    moved: npt.NDArray[np.float32] = cv2.remap(
        values, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return moved


def warp_image(image: ImageArray, flow: Flow) -> ImageArray:
    """Moves an image backward along a flow, as `warp` does, within [0, 255].

    Args:
        image: RGB [H, W, 3] in [0, 255], which the flow leads to.
        flow: From the image that is wanted to that one.
    """
    moved: ImageArray = np.clip(warp(image, flow), *PIXEL_RANGE)
    return moved


def trusted(backward: Flow, forward: Flow) -> Trust:
    """Finds the pixels whose match in the image before is known.

    Not trusted are pixels whose match lies outside the image before; disocclusions, where the
    flows there and back differ; and the boundaries of motion. With w' the forward flow at the match
    and w the backward flow, in pixels, the latter two are

        |w' + w|^2 > 0.01 (|w'|^2 + |w|^2) + 0.5
        |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002,   w = (u, v)

    N. Sundaram, T. Brox and K. Keutzer, "Dense Point Trajectories by GPU-accelerated Large
    Displacement Optical Flow" (ECCV 2010), as M. Ruder, A. Dosovitskiy and T. Brox use them,
    "Artistic Style Transfer for Videos" (GCPR 2016), section 4.2.

    Args:
        backward: The flow from the image to the one before.
        forward: The flow from the one before to the image.

    Returns:
        1 where the match is known, 0 elsewhere.
    """
    height, width = backward.shape[:2]
    x, y = np.moveaxis(_matches(backward), 2, 0)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    there = warp(forward, backward)
    squared = np.sum(backward**2, axis=2)
    difference = np.sum((there + backward) ** 2, axis=2)
    disoccluded = difference > 0.01 * (np.sum(there**2, axis=2) + squared) + 0.5
    down, right = np.gradient(backward, axis=(0, 1))
    steepness = np.sum(down**2 + right**2, axis=2)
    boundary = steepness > 0.01 * squared + 0.002
    found: Trust = (inside & ~disoccluded & ~boundary).astype(np.float32)
    return found


def _matches(flow: Flow) -> npt.NDArray[np.float32]:
    """Returns the position of each pixel's match, [H, W, 2] as x and y."""
    height, width = flow.shape[:2]
    y, x = np.indices((height, width), np.float32)
    positions: npt.NDArray[np.float32] = np.stack([x, y], axis=2) + flow
    return positions
