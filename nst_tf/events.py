"""What is reported while an image is optimized: plain data, without TensorFlow.

Every event is a frozen dataclass that pickles. A callback is any callable that takes an event; a
true answer to an `Iteration` ends the optimization with the best image so far.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nst_tf.errors import NstError
from nst_tf.image.arrays import ImageArray


@dataclass(frozen=True)
class Losses:
    """The weighted terms of an image's loss, by name.

    Attributes:
        terms: From "content/LAYER", "style/LAYER", "grain", "tv", "temporal" and the names of extra
            losses to the weighted value of the term.
    """

    terms: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum of all terms, which the optimizer minimizes."""
        return sum(self.terms.values())

    @property
    def content(self) -> float:
        """The weighted content loss, over all its layers."""
        return self._sum("content")

    @property
    def style(self) -> float:
        """The weighted style loss, over all its layers."""
        return self._sum("style")

    @property
    def grain(self) -> float:
        """The weighted grain loss."""
        return self._sum("grain")

    @property
    def tv(self) -> float:
        """The weighted total variation loss."""
        return self._sum("tv")

    @property
    def temporal(self) -> float:
        """The weighted temporal loss of a frame of a video."""
        return self._sum("temporal")

    def _sum(self, kind: str) -> float:
        return sum(value for name, value in self.terms.items() if name.split("/")[0] == kind)


class PlannedLevel(NamedTuple):
    """One size at which the image is optimized.

    Attributes:
        height: In pixels.
        width: In pixels.
        num_iterations: Iterations planned at this size.
    """

    height: int
    width: int
    num_iterations: int


@dataclass(frozen=True)
class Planned:
    """A job was checked and is about to begin.

    Attributes:
        levels: From coarse to fine.
        precision: What the network computes in.
        device: Where.
        memory_bytes: Expected peak memory.
        seconds: Expected time, or None where it is not known.
        seconds_per_evaluation: The same of one evaluation at full size, after which a request to
            stop is heeded.
        tile_size: The side in pixels of the tiles of large images, without border; 0 without tiles.
        iterations_done: Iterations before an interruption that the job continues; 0 for a new one.
        notes: What there is to say of the beginning, one line each: the size of the print, what was
            taken as the region of each mask, under which name the image is saved.
    """

    levels: tuple[PlannedLevel, ...]
    precision: str
    device: str
    memory_bytes: int
    seconds: float | None
    seconds_per_evaluation: float | None
    tile_size: int = 0
    iterations_done: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """The initial image, in the size of the result, is there before the first iteration.

    Attributes:
        image: RGB float32, [H, W, 3] in [0, 255].
        path: The file it was saved to by a job; None from `Stylizer`.
    """

    image: ImageArray = field(repr=False)
    path: Path | None = None


class IterateSource(Protocol):
    """Where an `Iteration` gets what is expensive to copy off the device."""

    def image(self) -> ImageArray:
        """Copies the current image."""

    def state(self) -> Any:
        """Copies the `nst_tf.engine.state.OptimizationState` to continue from."""


@dataclass(frozen=True)
class Iteration:
    """An iteration was completed.

    Attributes:
        iteration: Its number over all levels, from 1.
        num_iterations: Iterations planned over all levels.
        evaluations: Evaluations of loss and gradient so far.
        seconds: Time since the start, without that between an interruption and its continuation.
        done: The share of the planned work that is done, by pixels, from 0 to 1.
        seconds_left: Time that the rest is expected to take at the pace of the current level.
        losses: The weighted loss terms of the current image with its margin.
        height: Of the current level, in pixels.
        width: Of the current level, in pixels.
        source: Gives image and state on request; not part of the pickled event.
    """

    iteration: int
    num_iterations: int
    evaluations: int
    seconds: float
    done: float
    seconds_left: float
    losses: Losses
    height: int
    width: int
    source: IterateSource | None = field(default=None, repr=False, compare=False)

    @cached_property
    def image(self) -> ImageArray:
        """The current image, RGB float32 [H, W, 3]; copied from the device when first asked for.

        Values lie outside [0, 255] only where `bounds` are off.
        """
        return self._asked().image()

    def state(self) -> Any:
        """Copies the state to continue from: that of the last completed iteration."""
        return self._asked().state()

    def _asked(self) -> IterateSource:
        if self.source is None:
            raise ValueError("an event that was pickled has no state any more")
        return self.source

    def __getstate__(self) -> dict[str, Any]:
        """Keeps the image and leaves out its source."""
        return {**self.__dict__, "image": self.image, "source": None}


@dataclass(frozen=True)
class Scoring:
    """The optimization has ended, and the loss of its image is about to be computed in float32.

    Where the saved file has other pixels than the image, as a JPEG has, the event comes again.
    """


@dataclass(frozen=True)
class Checkpointed:
    """The state of a job was saved.

    Attributes:
        path: The checkpoint file.
        iteration: Iterations done by then.
        seconds: Time spent on saving it.
    """

    path: Path
    iteration: int
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The image of a job is at its final place.

    Attributes:
        path: The image file.
        losses: Of the file as it is read back, in float32; where `score` is off, those of the
            optimizer's last image.
        iterations: Iterations over all levels.
        seconds: Time of the whole job.
        stop_reason: Why the optimization ended, in words.
        finished: Whether it ran to its end: neither stopped nor failed numerically.
        timelapse: The animation of the run, where one was asked for and could be written.
    """

    path: Path
    losses: Losses
    iterations: int
    seconds: float
    stop_reason: str
    finished: bool
    timelapse: Path | None = None


@dataclass(frozen=True)
class Failed:
    """A job ended with an error, which is raised after this event.

    Attributes:
        error: What went wrong.
    """

    error: NstError


Event = Planned | Preview | Iteration | Scoring | Checkpointed | Saved | Failed
Callback = Callable[[Event], bool | None]
