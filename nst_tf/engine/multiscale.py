"""Coarse-to-fine optimization of an image's pixels."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from nst_tf import optimizers, system
from nst_tf.config import OptimizerSettings
from nst_tf.engine.levels import LevelBuilder
from nst_tf.engine.pyramid import Level
from nst_tf.engine.state import OptimizationState
from nst_tf.engine.tiling import history_dtype
from nst_tf.errors import InputError
from nst_tf.events import Callback, Iteration, Losses
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray
from nst_tf.image.margin import crop
from nst_tf.objective.function import LossFunction
from nst_tf.optimizers import StopReason

_INITIAL_STEP = 2.0
"""The largest change of a pixel in the first trial step, in gray levels of 255."""

_ADAM_STEP = 10.0
"""Adam's step size in gray levels of 255, as in neural-style."""

_RELEASE_INTERVAL = 20
"""Evaluations after which freed memory goes back to the system: its holes grow in number."""

_TOLERANCE = 1e-4
"""The relative decrease of the loss in 20 iterations below which nothing more is seen."""


@dataclass(frozen=True)
class Outcome:
    """The end of an optimization.

    Attributes:
        image: The best image at the size of the level that was reached, RGB [h, w, 3] in [0, 255],
            in the colors that are optimized.
        stop_reason: Why it ended.
        failure: What went wrong numerically; empty where nothing did.
        iterations: Over all levels.
        evaluations: Over all levels.
        seconds_evaluating: Time spent in evaluations.
        precision: What the network computed in at the end.
        own_losses: The loss of the image with its margin, not rounded, in that precision, where it
            is asked for.
    """

    image: ImageArray
    stop_reason: StopReason
    failure: str
    iterations: int
    evaluations: int
    seconds_evaluating: float
    precision: str
    own_losses: Losses | None


class MultiscaleOptimizer:
    """Optimizes an image level by level.

    Args:
        levels: The plan, from coarse to fine.
        builder: Gives the objective, the targets and the initial image of each level.
        settings: The method and whether pixels are bounded.
        precision: What the network computes in at first.
        callbacks: Called after each iteration.
        should_stop: Asked after each evaluation.
        began: When the whole call began, by the monotonic clock.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        builder: LevelBuilder,
        settings: OptimizerSettings,
        *,
        precision: str,
        callbacks: Sequence[Callback] = (),
        should_stop: Callable[[], bool] | None = None,
        began: float,
    ) -> None:
        self._levels = levels
        self._builder = builder
        self._settings = settings
        self._precision = precision
        self._callbacks = callbacks
        self._should_stop = should_stop
        self._began = began
        self._work = [builder.tiling.work(level.canvas) for level in levels]  # of an evaluation
        self._level_began = began
        self._seconds_evaluating = 0.0

    def initial_state(self) -> OptimizationState:
        """Returns the state at the beginning of the coarsest level."""
        image = self._builder.take_initial_image(self._levels[0])
        return OptimizationState(0, self._precision, 0, 0, 0, 0.0, 0.0, image, {})

    def run(self, state: OptimizationState, *, own_losses: bool = False) -> Outcome:
        """Optimizes from a state to the end of the last level, or until it is stopped.

        Args:
            state: That of `initial_state`, or of an `Iteration`, also of a run that was to have
                more or fewer iterations.
            own_losses: Whether the loss of the best image is evaluated in the end.

        Returns:
            The best image of the last level reached.

        Raises:
            InputError: The state does not belong to the levels.
        """
        self._check_state(state)
        self._began = min(self._began, time.monotonic() - state.seconds)
        self._seconds_evaluating = state.seconds_evaluating
        while True:
            function = LossFunction(
                self._builder.objective(self._levels[state.level].canvas, state.precision),
                self._builder.targets(self._levels[state.level]),
            )
            system.release_memory()
            self._level_began = time.monotonic()
            start, state = [state], state.without_arrays()
            found = self._minimize(state, start, function)
            iterations = state.iterations + found.iterations
            evaluations = state.evaluations + found.evaluations
            following = self._next_state(state, found)
            if following is None:
                image = crop(function.image(found.x), self._levels[state.level].margin)
                return Outcome(
                    image=np.clip(image, *PIXEL_RANGE),
                    stop_reason=found.stop_reason,
                    failure=self._failure(found, function),
                    iterations=iterations,
                    evaluations=evaluations,
                    seconds_evaluating=self._seconds_evaluating,
                    precision=state.precision,
                    own_losses=function.losses_at(found.x) if own_losses else None,
                )
            state = replace(
                following,
                iterations=iterations,
                evaluations=evaluations,
                seconds=self._seconds(),
                seconds_evaluating=self._seconds_evaluating,
            )

    def _next_state(
        self, state: OptimizationState, found: optimizers.Result
    ) -> OptimizationState | None:
        """Continues in float32 where bfloat16 fails, or at the next level; None at the end.

        It is the variables that go on, and not the image, in which masks have mixed them with the
        content: where an edge is soft they would be mixed once more at each level.
        """
        reason = found.stop_reason
        left = self._left(state) - found.iterations
        last = state.level + 1 == len(self._levels)
        # The noise of bfloat16 is not seen in a coarse level's image, which is only a start.
        in_doubt = reason.is_failure or (last and reason is StopReason.LINE_SEARCH)
        if in_doubt and state.precision == "bfloat16" and left:
            return replace(
                state,
                precision="float32",
                level_iterations=state.level_iterations + found.iterations,
                image=_variables(found),
                optimizer_state={},
            )
        if reason.is_failure or reason is StopReason.STOPPED or last:
            return None
        level = self._levels[state.level + 1]
        return replace(
            state,
            level=state.level + 1,
            precision=self._precision,
            level_iterations=0,
            image=self._builder.upsampled(_variables(found), self._levels[state.level], level),
            optimizer_state={},
        )

    def _left(self, state: OptimizationState) -> int:
        """Returns the iterations planned from the state's image on."""
        return self._levels[state.level].num_iterations - state.level_iterations

    def _check_state(self, state: OptimizationState) -> None:
        if state.level >= len(self._levels):
            why = f"it is of level {state.level + 1}, and there are {len(self._levels)}"
        elif state.done_at_level > (planned := self._levels[state.level].num_iterations):
            why = f"{state.done_at_level} iterations were done, and {planned} are planned"
        elif state.image.shape[:2] != (canvas := self._levels[state.level].canvas):
            why = f"its image has shape {list(state.image.shape[:2])}, not {list(canvas)}"
        else:
            return
        raise InputError(
            "cannot continue from the state", why, "raise num_iterations, or begin without a state"
        )

    def _minimize(
        self, state: OptimizationState, start: list[OptimizationState], function: LossFunction
    ) -> optimizers.Result:
        """Optimizes at the level of a state, from the one in `start`, which is taken out of it.

        So nothing keeps its arrays while the optimizer runs: large ones are much memory.

        Args:
            state: The state without its arrays.
            start: The state.
            function: The loss.
        """
        evaluations = itertools.count(1)
        # Callbacks may keep the last step, and with it what these functions refer to: in the end,
        # the loss and its targets are taken out.
        held = [function]

        def timed(variables: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            before = time.monotonic()
            value_and_gradient = held[0](variables)
            self._seconds_evaluating += time.monotonic() - before
            if next(evaluations) % _RELEASE_INTERVAL == 0:
                system.release_memory()
            return value_and_gradient

        def callback(step: optimizers.Step) -> bool:
            event = self._event(state, step, held[0])
            return any([bool(callback(event)) for callback in self._callbacks])

        method = self._settings.optimizer
        image, before = [start[0].image[np.newaxis]], [start.pop().optimizer_state or None]
        found = optimizers.minimize(
            timed,
            image.pop(),
            method=method,
            bounds=PIXEL_RANGE if self._settings.bounds else None,
            max_iterations=self._left(state),
            initial_step=_ADAM_STEP if method == "adam" else _INITIAL_STEP,
            history=self._builder.tiling.history,
            history_dtype=history_dtype(self._levels[state.level].canvas),
            tolerance=_TOLERANCE,
            callback=callback if self._callbacks else None,
            should_stop=self._should_stop,
            state=before.pop(),
        )
        held.clear()
        return found

    def _event(
        self, state: OptimizationState, step: optimizers.Step, function: LossFunction
    ) -> Iteration:
        height, width = self._levels[state.level].shape
        iterations = [level.num_iterations for level in self._levels]
        work = [a * b for a, b in zip(iterations, self._work, strict=True)]
        # At this level, too, where its second part is computed in float32.
        at_level = (state.level_iterations + step.iteration) * self._work[state.level]
        done = sum(work[: state.level]) + at_level
        restored = int(state.optimizer_state.get("iterations", 0))
        pace = (time.monotonic() - self._level_began) / (
            (step.iteration - restored) * self._work[state.level]
        )
        return Iteration(
            iteration=state.iterations + step.iteration,
            num_iterations=sum(iterations),
            evaluations=state.evaluations + step.evaluations,
            seconds=self._seconds(),
            done=done / sum(work),
            seconds_left=(sum(work) - done) * pace,
            # The last evaluation before a step is accepted is that of the accepted point.
            losses=function.last_losses(),
            height=height,
            width=width,
            source=_Source(self, state, step, function.image),
        )

    def _seconds(self) -> float:
        """Returns the time since the start, without that between interruption and continuation."""
        return time.monotonic() - self._began

    def _failure(self, found: optimizers.Result, function: LossFunction) -> str:
        """Says what went wrong numerically, if that is why the optimization ended.

        An image that cannot be improved from the start is none of it: the content where the style
        has no weight, or where content and style are equal.
        """
        reason = found.stop_reason
        if reason.is_failure:
            losses = function.last_losses()
            if reason is StopReason.EXPLODED:
                return f"the loss exploded: it is {losses.total:.3g}"
            names = [name for name, value in losses.terms.items() if not np.isfinite(value)]
            return f"the loss is not finite: {', '.join(names) or 'the gradient'}"
        if reason is StopReason.NO_GRADIENT and found.value > 0.0:
            return f"the loss did not change: {reason}"
        return ""


def _variables(found: optimizers.Result) -> ImageArray:
    variables: ImageArray = np.clip(np.asarray(found.x)[0], *PIXEL_RANGE)
    return variables


@dataclass(frozen=True)
class _Source:
    """Copies what an `Iteration` is asked for."""

    optimizer: MultiscaleOptimizer
    started: OptimizationState
    step: optimizers.Step
    to_image: Callable[[tf.Tensor], ImageArray]

    def image(self) -> ImageArray:
        margin = self.optimizer._levels[self.started.level].margin
        image = crop(self.to_image(self.step.x), margin)
        return self.optimizer._builder.in_color(image)

    def state(self) -> OptimizationState:
        return replace(
            self.started,
            image=np.asarray(self.step.x)[0],
            seconds=self.optimizer._seconds(),
            seconds_evaluating=self.optimizer._seconds_evaluating,
            optimizer_state=self.step.state(),
        )
