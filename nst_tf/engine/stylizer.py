"""Neural style transfer: content and style images in, a stylized image out."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy.typing as npt
import tensorflow as tf

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine import inputs, pyramid
from nst_tf.engine.cluster import Cluster, open_cluster
from nst_tf.engine.device import choose_precision, device_name
from nst_tf.engine.inputs import Before, ImageLike, Inputs, MaskLike
from nst_tf.engine.levels import LevelBuilder, StyleCache
from nst_tf.engine.multiscale import MultiscaleOptimizer
from nst_tf.engine.networks import Networks
from nst_tf.engine.state import OptimizationState
from nst_tf.engine.tiling import Tiling, plan_tiling
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Callback, Losses, Preview, Scoring
from nst_tf.image.arrays import ImageArray, check_image, quantize
from nst_tf.image.resize import resize
from nst_tf.io.images import as_image
from nst_tf.models.strips import convolution_class
from nst_tf.models.weights import Parameters
from nst_tf.objective.function import LossFunction
from nst_tf.objective.spec import ExtraLoss, spec_of
from nst_tf.optimizers import StopReason

Weights = Parameters | Mapping[str, npt.NDArray[Any]]
"""Parameters of VGG19: "LAYER/kernel" and "LAYER/bias" by name."""


@dataclass(frozen=True)
class Result:
    """A stylized image: plain data, which pickles.

    Attributes:
        image: RGB float32 in [0, 255], [H, W, 3], not rounded.
        losses: The weighted loss terms of the image rounded to 8 bits, in float32; where
            `original_colors` is "luminance", of its luminance. Without `score`, those of the last
            level's image with its margin, not rounded, in `precision`.
        iterations: Iterations of the optimizer, over all levels.
        evaluations: Evaluations of loss and gradient, over all levels.
        seconds: Time of the whole call.
        seconds_evaluating: The part of it spent in evaluations.
        stop_reason: Why it ended.
        failure: What went wrong numerically; empty where nothing did.
        precision: What the network computed in.
        device: Where.
    """

    image: ImageArray
    losses: Losses
    iterations: int
    evaluations: int
    seconds: float
    seconds_evaluating: float
    stop_reason: StopReason
    failure: str
    precision: str
    device: str


class Stylizer:
    """Transfers styles to many images with the same settings.

    Networks, graphs and the statistics of style images are kept from call to call.

    Args:
        config: All settings; paths in it other than `weights` and `init` are not read.
        weights: Parameters of VGG19; when left out, those that `config.weights` names.
        network: A Keras model in place of VGG19, from RGB images [B, H, W, 3] in [0, 255], with
            layers of the names in `config.content_layers` and `config.style_layers`.
        extra_losses: Further terms of the loss.

    Raises:
        InputError: The weights cannot be used, or the network lacks a layer.
        MachineError: It is too late for `deterministic`: TensorFlow has computed in this process.

    Example:
        >>> import numpy as np
        >>> import nst_tf
        >>> random = np.random.default_rng(0)
        >>> style = random.uniform(0, 255, (20, 30, 3))
        >>> stylizer = nst_tf.Stylizer(nst_tf.Config(image_size=30, num_iterations=2))
        >>> for content in random.uniform(0, 255, (2, 20, 30, 3)):
        ...     print(stylizer(content, style).image.shape)
        (20, 30, 3)
        (20, 30, 3)
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        weights: Weights | None = None,
        network: keras.Model | None = None,
        extra_losses: Sequence[ExtraLoss] = (),
    ) -> None:
        self.config = _checked(config)
        system.configure_tensorflow(self.config.threads, self.config.deterministic)
        self._extra = tuple(extra_losses)
        if weights is not None and not isinstance(weights, Parameters):
            weights = Parameters(dict(weights), "")
        with _memory_errors():
            self._networks = Networks(
                self.config.network,
                spec_of(self.config.loss, self._extra),
                weights=weights,
                network=network,
                adain=self.config.init == "adain",
                convolutions=convolution_class(self._longest_side()),
            )
        self._styles = self._networks.shared("style statistics", StyleCache)

    def _longest_side(self) -> float:
        """Returns the longest side of results and styles, infinity where it is not known yet."""
        side = self.config.longest_side
        return math.inf if side is None else side * max(1.0, self.config.style_scale)

    @property
    def precision(self) -> str:
        """What the network computes in first, "float32" or "bfloat16"."""
        config = self.config
        chosen = choose_precision(config.precision, deterministic=config.deterministic)
        return self._networks.precision(chosen)

    @property
    def device(self) -> str:
        """The device that is computed on."""
        return device_name()

    def __call__(
        self,
        content: ImageLike,
        style: ImageLike | Iterable[ImageLike],
        *,
        content_masks: MaskLike | Iterable[MaskLike] = (),
        style_masks: MaskLike | Iterable[MaskLike] = (),
        initial: ImageLike | None = None,
        before: Before | None = None,
        callbacks: Sequence[Callback] = (),
        should_stop: Callable[[], bool] | None = None,
        state: OptimizationState | None = None,
    ) -> Result:
        """Transfers the style of one or more images to a content image.

        L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural
        Networks" (CVPR 2016), section 2.3, with the pixels bounded to [0, 255], from coarse to
        fine.

        Args:
            content: An array or tensor [H, W, 3], or gray [H, W], of any numeric type in [0, 255],
                a PIL image, or the path of an image file.
            style: One such image, or a list, a tuple or an iterator of them to blend; each of its
                own size.
            content_masks: For regions with styles of their own, where each is: a path, a PIL image,
                or an array [h, w] of truth values, in [0, 1] or in [0, 255], of the content's
                aspect; or several. The style of the same number applies there, or the only one;
                where no mask is, the content is kept.
            style_masks: The part of its style that each region takes, of that style's aspect; or
                none at all.
            initial: The image to start from in place of `config.init`.
            before: What the frame before in a video leads to: where that is known, the optimization
                starts from it and has a temporal loss.
            callbacks: Called with a `Preview` of the initial image, unless `state` is given, with
                an `Iteration` after each, and with `Scoring` at the end; a true answer to an
                `Iteration` ends the optimization with the best image.
            should_stop: Called after every evaluation; a true answer ends the optimization with the
                best image.
            state: What `Iteration.state` gave in a call with the same images and settings, to
                continue from there; on the same machine, to the same image.

        Returns:
            The best image found, with its loss.

        Raises:
            InputError: An image, a mask or a size is wrong.
            MachineError: There is not enough memory.
        """
        began = time.monotonic()
        config = self.config
        with _memory_errors():
            given = inputs.prepare(
                content,
                style,
                config,
                self._full_size,
                content_masks=content_masks,
                style_masks=style_masks,
                initial=config.init_file if initial is None else initial,
            )
            given = replace(given, before=before)
            levels = self._plan(given)
            tiling = plan_tiling(levels, config)
            needs_tiles = any(map(tiling.size_for, (level.canvas for level in levels)))
            with open_cluster(config.runtime if needs_tiles else None) as cluster:
                builder = self._builder(given, tiling, cluster)
                builder.objective(levels[-1].canvas)  # what cannot have tiles is refused at once
                start = [] if state is None else [state]
                del state  # the caller may let go of it while the optimizer runs
                return self._optimized(builder, levels, start, callbacks, should_stop, began)

    def _optimized(
        self,
        builder: LevelBuilder,
        levels: Sequence[pyramid.Level],
        start: list[OptimizationState],
        callbacks: Sequence[Callback],
        should_stop: Callable[[], bool] | None,
        began: float,
    ) -> Result:
        """Optimizes, from a state that is taken out of `start` where there is one."""
        config = self.config
        optimizer = MultiscaleOptimizer(
            levels,
            builder,
            config.optimization,
            precision=self.precision,
            callbacks=callbacks,
            should_stop=should_stop,
            began=began,
        )
        if callbacks and not start:
            _show(Preview(builder.preview(levels)), callbacks)
        outcome = optimizer.run(
            start.pop() if start else optimizer.initial_state(), own_losses=not config.score
        )
        image = builder.in_color(resize(outcome.image, levels[-1].shape))
        losses = outcome.own_losses
        if losses is None:
            _show(Scoring(), callbacks)
            losses = self._losses(builder, levels[-1].without_margin, quantize(image))
        return Result(
            image=image,
            losses=losses,
            iterations=outcome.iterations,
            evaluations=outcome.evaluations,
            seconds=time.monotonic() - began,
            seconds_evaluating=outcome.seconds_evaluating,
            stop_reason=outcome.stop_reason,
            failure=outcome.failure,
            precision=outcome.precision,
            device=self.device,
        )

    def losses(
        self,
        image: ImageLike,
        content: ImageLike,
        style: ImageLike | Iterable[ImageLike],
        *,
        content_masks: MaskLike | Iterable[MaskLike] = (),
        style_masks: MaskLike | Iterable[MaskLike] = (),
    ) -> Losses:
        """Evaluates the loss of any image in float32.

        Args:
            image: An image of the size of the result.
            content: As for a call.
            style: As for a call.
            content_masks: As for a call.
            style_masks: As for a call.

        Returns:
            The weighted loss terms; where `original_colors` is "luminance", of the luminance.

        Raises:
            InputError: An image, a mask or a size is wrong.
            MachineError: There is not enough memory.
        """
        with _memory_errors():
            builder, level = self._last_level(content, style, content_masks, style_masks)
            config = self.config
            array = as_image(image, "evaluated", config.max_pixels, config.background_color)
            if array.shape[:2] != level.shape:
                height, width = level.shape
                raise InputError(
                    "the evaluated image has another size than the result",
                    f"it has {array.shape[1]}x{array.shape[0]} pixels, the result {width}x{height}",
                    "resize it, or set image_size to its longer side",
                )
            return self._losses(builder, level, array)

    def loss_function(
        self,
        content: ImageLike,
        style: ImageLike | Iterable[ImageLike],
        *,
        content_masks: MaskLike | Iterable[MaskLike] = (),
        style_masks: MaskLike | Iterable[MaskLike] = (),
        precision: str = "float32",
    ) -> LossFunction:
        """Returns the loss of images of the result's size, with its gradient.

        Args:
            content: As for a call.
            style: As for a call.
            content_masks: As for a call.
            style_masks: As for a call.
            precision: What the network computes in, "float32" or "bfloat16".

        Returns:
            A function from a tensor [1, H, W, 3] to loss and gradient, such as
            `nst_tf.optimizers.minimize` takes.

        Raises:
            InputError: An image, a mask or a size is wrong.
            MachineError: There is not enough memory.
        """
        with _memory_errors():
            builder, level = self._last_level(content, style, content_masks, style_masks)
            return LossFunction(builder.objective(level.shape, precision), builder.targets(level))

    def _last_level(
        self,
        content: ImageLike,
        style: ImageLike | Iterable[ImageLike],
        content_masks: MaskLike | Iterable[MaskLike],
        style_masks: MaskLike | Iterable[MaskLike],
    ) -> tuple[LevelBuilder, pyramid.Level]:
        given = inputs.prepare(
            content,
            style,
            self.config,
            self._full_size,
            content_masks=content_masks,
            style_masks=style_masks,
        )
        level = self._plan(given)[-1].without_margin
        return self._builder(given, plan_tiling([level], self.config), None), level

    def _plan(self, given: Inputs) -> tuple[pyramid.Level, ...]:
        limit = self._networks.side_limit()
        return pyramid.plan(*given.shapes, self.config, limit)

    def _full_size(
        self, content_shape: pyramid.Shape, style_shapes: Sequence[pyramid.Shape]
    ) -> pyramid.Level:
        limit = self._networks.side_limit()
        return pyramid.plan(content_shape, style_shapes, self.config, limit)[-1]

    def _builder(self, given: Inputs, tiling: Tiling, cluster: Cluster | None) -> LevelBuilder:
        config = self.config
        return LevelBuilder(
            given,
            config.loss,
            config.initial,
            self._networks,
            self._styles,
            self.precision,
            tiling,
            cluster,
            self._extra,
        )

    def _losses(
        self, builder: LevelBuilder, level: pyramid.Level, image: npt.NDArray[Any]
    ) -> Losses:
        array = builder.in_optimized_colors(check_image(image, "evaluated"))
        function = LossFunction(builder.objective(level.shape), builder.targets(level))
        return function.losses(array)


def stylize(
    content: ImageLike,
    style: ImageLike | Iterable[ImageLike],
    config: Config | None = None,
    *,
    weights: Weights | None = None,
    network: keras.Model | None = None,
    extra_losses: Sequence[ExtraLoss] = (),
    content_masks: MaskLike | Iterable[MaskLike] = (),
    style_masks: MaskLike | Iterable[MaskLike] = (),
    initial: ImageLike | None = None,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] | None = None,
    state: OptimizationState | None = None,
) -> Result:
    """Transfers the style of one or more images to a content image.

    The arguments and the result are those of `Stylizer` and of its call. For many images, build a
    `Stylizer` once.

    Raises:
        InputError: An image, a mask, a size or the weights are wrong.
        MachineError: There is not enough memory.

    Example:
        >>> import numpy as np
        >>> import nst_tf
        >>> random = np.random.default_rng(0)
        >>> content, style = random.uniform(0, 255, (2, 20, 30, 3))
        >>> config = nst_tf.Config(image_size=30, num_iterations=2)
        >>> nst_tf.stylize(content, style, config).image.shape
        (20, 30, 3)
    """
    stylizer = Stylizer(config, weights=weights, network=network, extra_losses=extra_losses)
    return stylizer(
        content,
        style,
        content_masks=content_masks,
        style_masks=style_masks,
        initial=initial,
        callbacks=callbacks,
        should_stop=should_stop,
        state=state,
    )


def _show(event: Preview | Scoring, callbacks: Sequence[Callback]) -> None:
    for callback in callbacks:
        callback(event)


def _checked(config: Any) -> Config:
    """Refuses settings that are no `Config`, as a dict or the path of a file."""
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    raise InputError(
        "config is not a Config",
        f"it is of type {type(config).__name__}",
        "give nst_tf.Config(**settings), or nst_tf.load_config(path)",
    )


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Raises an error of ours where TensorFlow or NumPy run out of memory."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise MachineError(
            "memory ran out",
            str(error).partition("\n")[0][:100] or "there is none left",
            "take a smaller --image_size, or free some memory and go on with --resume",
        ) from error
