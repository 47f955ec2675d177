"""The check of a gradient that every differentiable piece is held to."""

import numpy as np


def gradient_error(function, gradient, x, step, directions=5, seed=0):
    """Returns the largest relative error of directional derivatives by central differences.

    Each direction follows the gradient's signs in a random half of the variables, so that the
    change of the function stands far above the rounding of float32.
    """
    random = np.random.default_rng(seed)
    gradient = np.asarray(gradient, np.float64)
    errors = []
    for _ in range(directions):
        direction = (np.sign(gradient) * random.integers(0, 2, x.shape)).astype(np.float32)
        rise = float(function(x + step * direction)) - float(function(x - step * direction))
        expected = rise / (2 * step)
        errors.append(abs(np.sum(gradient * direction) - expected) / abs(expected))
    return max(errors)
