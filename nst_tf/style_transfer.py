"""Arrays in, arrays out: a content and its styles become a stylised picture."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf import images, optimizers, parameters, pyramid, vgg19
from nst_tf.config import Config
from nst_tf.errors import InputError
from nst_tf.objective import Losses, Objective, layers_of
from nst_tf.optimizers import StopReason

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.float32]

_LEVELS = (0.0, 255.0)


@dataclass(frozen=True)
class Progress:
    """The state of a run after an iteration.

    Attributes:
        iteration: Its number, from 1.
        evaluations: Evaluations of loss and gradient so far.
        seconds: Time since the first evaluation began.
        losses: The weighted loss terms of `picture`.
        picture: RGB float32, [H, W, 3]; outside [0, 255] only where `bounds` are off.
    """

    iteration: int
    evaluations: int
    seconds: float
    losses: Losses
    picture: Picture


Listener = Callable[[Progress], bool | None]


@dataclass(frozen=True)
class Result:
    """A stylised picture.

    Attributes:
        picture: RGB float32 in [0, 255], [H, W, 3], not rounded.
        losses: The weighted loss terms of the picture rounded to 8 bits.
        iterations: Steps of the optimiser.
        evaluations: Evaluations of loss and gradient.
        seconds: Time of the optimisation.
        seconds_evaluating: The part of it spent in evaluations.
        stop_reason: Why it ended.
        failure: The terms that were not finite, where that is why it ended.
        device: Where the network ran.
        evaluate: Gives the loss terms of any picture of the same size.
    """

    picture: Picture
    losses: Losses
    iterations: int
    evaluations: int
    seconds: float
    seconds_evaluating: float
    stop_reason: StopReason
    failure: str
    device: str
    evaluate: Callable[[Array], Losses]


def stylize(
    content: Array,
    style: Array | Sequence[Array],
    config: Config | None = None,
    *,
    start: Array | None = None,
    weights: Mapping[str, Picture] | None = None,
    listener: Listener | None = None,
) -> Result:
    """Gives the content the manner of the style.

    L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural
    Networks" (CVPR 2016), section 2.3, with the pixels held within [0, 255].

    Args:
        content: RGB, [H, W, 3] in [0, 255], of any numeric type.
        style: One picture, or a list of them to blend; each of its own size.
        config: All settings; paths in it other than `weights` and `init` are not looked at.
        start: The picture to start from, RGB, [H, W, 3] in [0, 255]; overrides `config.init`.
        weights: Parameters of VGG19 by name; when left out, those that `config.weights` names.
        listener: Called after every iteration; a true answer ends the run with the best picture.

    Returns:
        The best picture found, with its loss.

    Raises:
        InputError: An array, the weights or a size is wrong.
        MachineError: The optimiser would need more memory than there is.

    Example:
        >>> import numpy as np
        >>> import nst_tf
        >>> random = np.random.default_rng(0)
        >>> content, style = random.uniform(0, 255, (2, 20, 30, 3))
        >>> config = nst_tf.Config(image_size=30, num_iterations=2)
        >>> nst_tf.stylize(content, style, config).picture.shape
        (20, 30, 3)
    """
    config = Config() if config is None else config
    content = _checked(content, "content")
    styles = [_checked(picture, "style") for picture in _as_list(style)]
    _check_blend(config, len(styles))
    level = pyramid.plan(content.shape[:2], [picture.shape[:2] for picture in styles], config)
    content = images.resize(content, level.shape)
    styles = [
        images.resize(picture, shape)
        for picture, shape in zip(styles, level.style_shapes, strict=True)
    ]
    if start is None:
        start = _starting_picture(config, content, styles)
    start = images.resize(_checked(start, "start"), level.shape)

    if weights is None:
        weights = parameters.load(config.weights, config.weights_sha256).arrays
    network = vgg19.build(layers_of(config), config.pooling, weights)
    return _optimise(Objective(network, content, styles, config), start, config, listener)


def _optimise(
    objective: Objective, start: Picture, config: Config, listener: Listener | None
) -> Result:
    """Minimises the objective and rounds once to see what a saved picture will be worth."""
    began = time.monotonic()
    seconds_evaluating = 0.0
    losses = Losses({})

    def value_and_grad(picture: Picture) -> tuple[float, Picture]:
        nonlocal losses, seconds_evaluating
        before = time.monotonic()
        losses, gradient = objective.value_and_grad(picture)
        seconds_evaluating += time.monotonic() - before
        return losses.total, gradient

    def callback(step: optimizers.Step) -> bool | None:
        if listener is None:
            return None
        # The last evaluation before a step is accepted is that of the accepted point.
        seconds = time.monotonic() - began
        return listener(Progress(step.iteration, step.evaluations, seconds, losses, step.x))

    found = optimizers.minimize(
        config.optimizer,
        value_and_grad,
        start,
        bounds=_LEVELS if config.bounds else None,
        num_iterations=config.num_iterations,
        callback=callback,
    )
    seconds = time.monotonic() - began

    def evaluate(picture: Array) -> Losses:
        return objective.value_and_grad(np.asarray(picture, np.float32))[0]

    picture = np.clip(found.x, *_LEVELS)
    return Result(
        picture=picture,
        losses=evaluate(images.to_uint8(picture)),
        iterations=found.iterations,
        evaluations=found.evaluations,
        seconds=seconds,
        seconds_evaluating=seconds_evaluating,
        stop_reason=found.stop_reason,
        failure=_not_finite(losses) if found.stop_reason is StopReason.NOT_FINITE else "",
        device=device(),
        evaluate=evaluate,
    )


def _not_finite(losses: Losses) -> str:
    """Names the terms that went wrong; where all are finite, it was their gradient."""
    names = [name for name, value in losses.terms.items() if not np.isfinite(value)]
    return ", ".join(names) or "the gradient"


def device() -> str:
    """Names the device that TensorFlow computes on; the first call looks for one.

    Returns:
        The name of the first GPU that TensorFlow sees, otherwise "CPU".
    """
    graphics = tf.config.list_physical_devices("GPU")
    if not graphics:
        return "CPU"
    return str(tf.config.experimental.get_device_details(graphics[0]).get("device_name", "GPU"))


def _starting_picture(config: Config, content: Picture, styles: Sequence[Picture]) -> Picture:
    if config.init == "content":
        return content
    if config.init == "noise":
        noise = np.random.default_rng(config.seed).normal(127.5, 32.0, content.shape)
        return np.clip(noise, *_LEVELS).astype(np.float32)
    if config.init == "style":
        return images.cover(styles[0], content.shape[:2])
    return images.read(Path(config.init), config.max_pixels)


def _as_list(style: Array | Sequence[Array]) -> Sequence[Array]:
    return [style] if isinstance(style, np.ndarray) else style


def _check_blend(config: Config, styles: int) -> None:
    """Refuses a number of styles that does not fit their weights, or none."""
    weights = len(config.style_blend_weights)
    if styles and weights in (0, styles):
        return
    raise InputError(
        "the styles do not fit together" if styles else "there is no style picture",
        f"style_blend_weights has {weights} weights for {styles} style picture(s)",
        "give at least one style, and a weight for each or none at all",
    )


def _checked(picture: Array, name: str) -> Picture:
    """Refuses what is not a picture."""
    array = np.asarray(picture, dtype=np.float32)
    good = array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    if not (good and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise InputError(
            f"the {name} array is not a picture",
            f"it has shape {array.shape}"
            + (f" and values from {array.min():g} to {array.max():g}" if good else ""),
            "give RGB of shape [H, W, 3] with finite values in [0, 255]",
        )
    return array
