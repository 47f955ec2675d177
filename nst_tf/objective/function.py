"""An objective with its targets: a function of the optimizer's variables."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import tensorflow as tf

from nst_tf.events import Losses
from nst_tf.image.arrays import ImageArray
from nst_tf.objective.graphs import Objective
from nst_tf.objective.targets import Fixed, Targets
from nst_tf.objective.terms import constrain
from nst_tf.objective.tiled import TiledObjective


class LossFunction:
    """The loss of one image among images of its size, and its gradient.

    Args:
        objective: The graphs, of whole images or of tiles.
        targets: What the image is compared with.
    """

    def __init__(self, objective: Objective | TiledObjective, targets: Targets) -> None:
        self._objective = objective
        self._targets = targets
        self._terms: Mapping[str, tf.Tensor] = {}
        self._last: tf.Tensor | None = None

    def __call__(self, variables: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Evaluates loss and gradient on the device.

        Args:
            variables: [1, H, W, 3] in [0, 255]; where masks or a color mode restrict the image, the
                image follows from them by `image`.

        Returns:
            The total loss, a scalar in float64, and its gradient with respect to the variables.
        """
        value, gradient, self._terms = self._objective.value_and_gradients(variables, self._targets)
        self._last = variables
        return value, gradient

    def last_losses(self) -> Losses:
        """Copies the terms of the last evaluation off the device."""
        return _fetched(self._terms)

    def losses_at(self, variables: tf.Tensor) -> Losses:
        """Copies the terms of any point off the device; they are known if it was the last one."""
        if variables is not self._last:
            self(variables)
        return self.last_losses()

    def losses(self, image: ImageArray) -> Losses:
        """Evaluates the terms of an image, RGB [H, W, 3] in [0, 255], as it is."""
        return _fetched(self._objective.loss_terms(batch(image), self._targets))

    @property
    def image(self) -> Callable[[tf.Tensor], ImageArray]:
        """Maps variables to the image that they stand for, float32 [H, W, 3].

        It keeps no more of the targets than it needs: those of a large image are much memory.
        """
        return partial(
            _constrained,
            fixed=self._targets.fixed,
            luminance_only=self._objective.spec.luminance_only,
        )


def batch(image: ImageArray) -> tf.Tensor:
    """Makes a batch of one of an image: [H, W, 3] to float32 [1, H, W, 3]."""
    return tf.constant(image[np.newaxis], tf.float32)


def _constrained(variables: tf.Tensor, fixed: Fixed | None, luminance_only: bool) -> ImageArray:
    image: ImageArray = constrain(variables, fixed, luminance_only).numpy()[0]
    return image


def _fetched(terms: Mapping[str, tf.Tensor]) -> Losses:
    if not terms:
        return Losses({})
    values = tf.concat(list(terms.values()), axis=0).numpy()  # all at once
    return Losses(dict(zip(terms, values.tolist(), strict=True)))
