"""Progress in notebooks: the current image and its losses, shown while they are computed.

IPython, which every notebook has, is imported when the first display is made.
"""

import time
from typing import Any

from PIL import Image

from nst_tf.errors import MachineError
from nst_tf.events import Event, Iteration, Preview
from nst_tf.image.arrays import ImageArray, quantize


class Progress:
    """A callback that shows the current image and its losses below the cell that runs.

    Both are shown in displays of IPython, which are replaced as the run goes on. The last iteration
    is always shown. One object serves one run after another, each with displays of its own.

    Args:
        seconds: Time between two images, which are copied from the device for it.
        longest_side: Larger images are shown reduced to this many pixels.

    Raises:
        MachineError: IPython is not installed.

    Example:
        >>> import numpy as np
        >>> import nst_tf
        >>> content, style = np.random.default_rng(0).uniform(0, 255, (2, 20, 30, 3))
        >>> config = nst_tf.Config(image_size=30, num_iterations=2)
        >>> progress = nst_tf.notebook.Progress()
        >>> result = nst_tf.stylize(content, style, config, callbacks=[progress])  # doctest: +SKIP
    """

    def __init__(self, seconds: float = 1.0, longest_side: int = 512) -> None:
        self._display = _import_display()
        self._seconds = seconds
        self._longest_side = longest_side
        self._begin()

    def _begin(self) -> None:
        """Lets the next image and losses have new displays."""
        self._image: Any = None
        self._losses: Any = None
        self._shown = float("-inf")

    def __call__(self, event: Event) -> None:
        """Shows an initial image, or an iteration whose turn it is."""
        match event:
            case Preview():
                self._begin()
                self._show(event.image, "the initial image")
            case Iteration(iteration=last, num_iterations=planned):
                if last < planned and time.monotonic() < self._shown + self._seconds:
                    return
                self._show(event.image, _table(event))
                if last == planned:
                    self._begin()

    def _show(self, image: ImageArray, text: str) -> None:
        picture = Image.fromarray(quantize(image))
        picture.thumbnail((self._longest_side, self._longest_side), Image.Resampling.BOX)
        words = self._display.Markdown(text)
        if self._image is None:
            self._image = self._display.display(picture, display_id=True)
            self._losses = self._display.display(words, display_id=True)
        else:
            self._image.update(picture)
            self._losses.update(words)
        self._shown = time.monotonic()


def _import_display() -> Any:
    try:
        from IPython import display
    except ImportError as error:
        raise MachineError(
            "cannot show progress in a notebook",
            "IPython is not installed",
            "install it: pip install ipython, or use another callback",
        ) from error
    return display


def _table(event: Iteration) -> str:
    """Returns losses and time in Markdown."""
    losses = event.losses
    kinds = ("content", "style", "grain", "tv", "temporal")
    terms = {name: value for name in kinds if (value := getattr(losses, name))}
    own = {name: value for name, value in losses.terms.items() if name.split("/")[0] not in kinds}
    cells = {"loss": losses.total, **terms, **own}
    rows = [" | ".join(cells), " | ".join(["---:"] * len(cells))]
    rows.append(" | ".join(f"{value:.4g}" for value in cells.values()))
    table = "\n".join(f"| {row} |" for row in rows)
    return (
        f"iteration {event.iteration} of {event.num_iterations}, {event.width}x{event.height}, "
        f"{event.seconds:.0f} s, {event.seconds_left:.0f} s left\n\n{table}"
    )
