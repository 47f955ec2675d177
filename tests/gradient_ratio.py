"""How strongly the style pulls on noise, relative to the content."""

import numpy as np
import tensorflow as tf


def gradient_ratio(objective, targets, shape):
    """Returns the lengths' ratio of the gradients of style and content, at an image of noise.

    Args:
        objective: The objective.
        targets: What it compares with.
        shape: Height and width of the image.
    """
    noise = np.random.default_rng(0).normal(127.5, 32.0, (1, *shape, 3))
    noise = tf.constant(np.clip(noise, 0, 255), tf.float32)
    lengths = []
    for kind in ("style", "content"):
        only = {
            name: weight if name.startswith(kind) else 0.0 * weight
            for name, weight in targets.weights.items()
        }
        _, gradient, _ = objective.value_and_gradients(noise, targets._replace(weights=only))
        lengths.append(np.linalg.norm(gradient))
    return lengths[0] / lengths[1]
