"""Arrays in, arrays out: a content and its styles become a stylised picture, level by level."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from nst_tf import optimizers, system
from nst_tf.config.schema import Config
from nst_tf.engine import pyramid
from nst_tf.engine.inputs import Array, Scene
from nst_tf.errors import InputError
from nst_tf.image import masks
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray, check_image, quantize
from nst_tf.image.resize import resize
from nst_tf.jobs.checkpoint import Position
from nst_tf.models import vgg19
from nst_tf.models import weights as parameters
from nst_tf.objective.terms import Losses, Objective, layers_of
from nst_tf.optimizers import StopReason

Weights = Mapping[str, ImageArray]


@dataclass(frozen=True)
class Progress:
    """The state of a run after an iteration.

    Attributes:
        iteration: Its number over all levels of the pyramid, from 1.
        evaluations: Evaluations of loss and gradient so far.
        seconds: Time since the run began.
        done: The share of the planned work that is done, by pixels, from 0 to 1.
        losses: The weighted loss terms of `picture`, among pictures of its size; where
            `original_colors` is "luminance", of its luminance.
        picture: RGB float32, [H, W, 3]; outside [0, 255] only where `bounds` are off.
        position: Copies what it takes to go on from here, or from where the method can; asked
            later, it tells of the last iteration done by then.
    """

    iteration: int
    evaluations: int
    seconds: float
    done: float
    losses: Losses
    picture: ImageArray
    position: Callable[[], Position]


Listener = Callable[[Progress], bool | None]


@dataclass(frozen=True)
class Result:
    """A stylised picture.

    Attributes:
        picture: RGB float32 in [0, 255], [H, W, 3], not rounded.
        iterations: Steps of the optimiser, over all levels.
        evaluations: Evaluations of loss and gradient, over all levels.
        seconds: Time of the whole call.
        seconds_evaluating: The part of it spent in evaluations.
        stop_reason: Why it ended.
        failure: What went wrong with the numbers; empty when nothing did.
        precision: What the network computed in.
        device: Where it did.
        evaluate: Gives the loss terms of any picture of the same size, in float32; where
            `original_colors` is "luminance", those of its luminance.
    """

    picture: ImageArray
    iterations: int
    evaluations: int
    seconds: float
    seconds_evaluating: float
    stop_reason: StopReason
    failure: str
    precision: str
    device: str
    evaluate: Callable[[Array], Losses]

    @cached_property
    def losses(self) -> Losses:
        """The weighted loss terms of the picture rounded to 8 bits, in float32."""
        return self.evaluate(quantize(self.picture))


def stylize(
    content: Array,
    style: Array | Sequence[Array],
    config: Config | None = None,
    *,
    content_masks: Sequence[Array] = (),
    style_masks: Sequence[Array] = (),
    start: Array | None = None,
    weights: Weights | None = None,
    preview: Callable[[ImageArray], None] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: Position | None = None,
) -> Result:
    """Gives the content the manner of the style.

    L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural
    Networks" (CVPR 2016), section 2.3, with the pixels held within [0, 255], from coarse to fine.

    Args:
        content: RGB, [H, W, 3] in [0, 255], of any numeric type.
        style: One picture, or a list of them to blend; each of its own size.
        config: All settings; paths in it other than `weights` and `init` are not looked at.
        content_masks: For regions with styles of their own, where each is, [h, w] in [0, 1], of the
            content's aspect. The style of the same number goes there, or the only one; what no mask
            covers keeps its content.
        style_masks: What each region takes of its style, of that style's aspect; or none at all.
        start: The picture to start from, RGB, [H, W, 3] in [0, 255], in place of `config.init`.
        weights: Parameters of VGG19 by name; when left out, those that `config.weights` names.
        preview: Called once, before the first evaluation, with the picture that the run starts from
            at full size; not for a run that is resumed.
        listener: Called after every iteration; a true answer ends the run with the best picture.
        stop: Asked after every evaluation; a true answer ends the run with the best picture.
        resume: What `Progress.position` gave in a run of the same pictures and settings, to go on
            from there; on the same machine, to the same picture.

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
    began = time.monotonic()
    config = Config() if config is None else config
    if start is not None:
        config = config.model_copy(update={"init": "content"})  # as any start that is a picture
    content = check_image(content, "content")
    styles = [check_image(picture, "style") for picture in _as_list(style)]
    shapes = [picture.shape[:2] for picture in styles]
    parts = masks.combine(
        content_masks, style_masks, config.style_blend_weights, content.shape[:2], shapes
    )
    if not parts:
        _check_blend(config, len(styles))
    levels = pyramid.plan(content.shape[:2], shapes, config)
    if weights is None:
        weights = parameters.load(config.weights, config.weights_sha256).arrays

    scene = Scene(
        content, styles, parts, config, weights, precision(config),
        None if start is None else check_image(start, "start"),
    )  # fmt: skip
    ascent = _Ascent(scene, config, weights, levels, began, listener, stop)
    if resume is not None:
        position = resume
    else:
        if preview is not None:
            preview(scene.shown(scene.start(levels[-1])))
        position = ascent.bottom()
    picture, reason = ascent.climb(position)

    def evaluate(picture: Array) -> Losses:
        seen = scene.reduce(np.asarray(picture, np.float32))
        return ascent.objective(levels[-1], "float32").losses(seen)

    return Result(
        picture=scene.shown(resize(picture, levels[-1].shape)),
        iterations=ascent.iterations,
        evaluations=ascent.evaluations,
        seconds=ascent.seconds,
        seconds_evaluating=ascent.seconds_evaluating,
        stop_reason=reason,
        failure=ascent.failure(reason),
        precision=ascent.precision,
        device=device(),
        evaluate=evaluate,
    )


class _Ascent:
    """Works a picture up the pyramid, and counts what that takes."""

    def __init__(
        self,
        scene: Scene,
        config: Config,
        weights: Weights,
        levels: Sequence[pyramid.Level],
        began: float,
        listener: Listener | None,
        stop: Callable[[], bool],
    ) -> None:
        self.config = config
        self.weights = weights
        self._first_precision = self.precision = precision(config)
        self.iterations = 0
        self.evaluations = 0
        self.seconds_evaluating = 0.0
        self.losses = Losses({})
        self._improved = False
        self._scene = scene
        self._levels = levels
        self._work = [level.num_iterations * math.prod(level.shape) for level in levels]
        self._began = began
        self._listener = listener
        self._stop = stop
        self._network = cache(self._build_network)
        self.objective = lru_cache(1)(self._bind_objective)  # the last one only: they are large

    @property
    def seconds(self) -> float:
        """The time since the run began, without that between an interruption and resumption."""
        return time.monotonic() - self._began

    def bottom(self) -> Position:
        """Stands at the start of the coarsest level."""
        level = self._levels[0]
        picture = self._scene.start(level)
        return Position(0, self.precision, level.num_iterations, 0, 0, 0.0, 0.0, picture, {})

    def climb(self, position: Position) -> tuple[ImageArray, StopReason]:
        """Goes on from a position to the end of the last level, or to where the run is stopped."""
        self._began = min(self._began, time.monotonic() - position.seconds)
        self.seconds_evaluating = position.seconds_evaluating
        self._improved = position.iterations > 0
        while True:
            found = self._minimize(position)
            self._improved |= found.value < found.first_value
            picture = np.clip(found.x, *PIXEL_RANGE)
            picture = self._scene.held(picture, self._levels[position.level])
            following = self._following(position, found, picture)
            if following is None:
                return picture, found.stop_reason
            position = following

    def _following(
        self, position: Position, found: optimizers.Result, picture: ImageArray
    ) -> Position | None:
        """Stands at the start of what comes next: float32 where bfloat16 fails, or a level."""
        reason = found.stop_reason
        left = position.num_iterations - found.iterations
        level, precision = position.level, position.precision
        last = level + 1 == len(self._levels)
        # Of a coarse level only a start is made, in which the noise of bfloat16 is not seen.
        in_doubt = reason.is_failure or (last and reason is StopReason.LINE_SEARCH)
        if in_doubt and precision == "bfloat16" and left:
            precision = "float32"
        elif reason.is_failure or reason is StopReason.STOPPED or last:
            return None
        else:
            level, precision = level + 1, self._first_precision
            left = self._levels[level].num_iterations
            picture = self._scene.carry(picture, self._levels[level])
        return Position(
            level, precision, left,
            self.iterations, self.evaluations, self.seconds, self.seconds_evaluating, picture, {},
        )  # fmt: skip

    def _minimize(self, position: Position) -> optimizers.Result:
        level = self._levels[position.level]
        objective = self.objective(level, position.precision)
        self.precision = position.precision
        pixels = math.prod(level.shape)
        work_before = (
            sum(self._work[: position.level + 1]) - position.num_iterations * pixels
        )  # of this level, too, where its second part is done in float32

        def value_and_grad(picture: ImageArray) -> tuple[float, ImageArray]:
            before = time.monotonic()
            self.losses, gradient = objective.value_and_grad(self._scene.held(picture, level))
            gradient = self._scene.projected(gradient, level)
            self.seconds_evaluating += time.monotonic() - before
            return self.losses.total, gradient

        def callback(step: optimizers.Step) -> bool | None:
            if self._listener is None:
                return None
            return self._listener(
                Progress(
                    iteration=position.iterations + step.iteration,
                    evaluations=position.evaluations + step.evaluations,
                    seconds=self.seconds,
                    done=(work_before + step.iteration * pixels) / sum(self._work),
                    # The last evaluation before a step is accepted is that of the accepted point.
                    losses=self.losses,
                    picture=self._scene.shown(self._scene.held(step.x, level)),
                    position=lambda: replace(
                        position,
                        seconds=self.seconds,
                        seconds_evaluating=self.seconds_evaluating,
                        state=step.state(),
                    ),
                )
            )

        found = optimizers.minimize(
            self.config.optimizer,
            value_and_grad,
            position.picture,
            bounds=PIXEL_RANGE if self.config.bounds else None,
            num_iterations=position.num_iterations,
            callback=callback,
            stop=self._stop,
            state=position.state or None,
        )
        self.iterations = position.iterations + found.iterations
        self.evaluations = position.evaluations + found.evaluations
        return found

    def failure(self, reason: StopReason) -> str:
        """Says what went wrong with the numbers, if that is why the run ended."""
        if reason is StopReason.NOT_FINITE:
            return f"the loss is not finite: {_not_finite(self.losses)}"
        if reason is StopReason.EXPLODED:
            return f"the loss exploded: it is {self.losses.total:.3g}"
        planned = any(level.num_iterations for level in self._levels)
        if planned and not self._improved and reason is not StopReason.STOPPED:
            return f"the loss did not change: {reason}"
        return ""

    def _build_network(self, precision: str) -> Any:
        config = self.config
        return vgg19.build(
            layers_of(config),
            config.pooling,
            self.weights,
            precision=precision,
            padding=config.padding,
        )

    def _bind_objective(self, level: pyramid.Level, precision: str) -> Objective:
        content, styles = self._scene.pictures(level)
        network = self._network(precision)
        return Objective(network, content, styles, self.config, self._scene.regions(level))


def precision(config: Config) -> str:
    """Chooses what the network computes in.

    Args:
        config: `precision`; "auto" is bfloat16 where the hardware multiplies it.

    Returns:
        "float32" or "bfloat16".
    """
    graphics = _graphics()
    capability = graphics.get("compute_capability", (0, 0)) if graphics else None
    return system.precision(
        config.precision, deterministic=config.deterministic, graphics=capability
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
    return str(_graphics().get("device_name", "CPU"))


def _graphics() -> dict[str, Any]:
    """Tells what TensorFlow knows of its first GPU; nothing where there is none."""
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return {}
    return {"device_name": "GPU", **tf.config.experimental.get_device_details(devices[0])}


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
