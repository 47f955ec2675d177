"""Counts copies of tensors from TensorFlow's device to the host."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass
class Fetches:
    """What was copied to the host.

    Attributes:
        number: Copies.
        num_bytes: Their size.
    """

    number: int = 0
    num_bytes: int = 0


@contextlib.contextmanager
def counted_fetches() -> Iterator[Fetches]:
    """Counts what is copied to the host in the body of a `with` statement.

    Counted are `tensor.numpy()`, `float(tensor)`, `bool(tensor)` and the like, `numpy.asarray` and
    `numpy.array`. Other functions of NumPy read a tensor on the CPU unseen.

    Yields:
        The counts, which grow meanwhile.
    """
    fetches = Fetches()
    tensor_type = next(kind for kind in type(tf.constant(0)).__mro__ if "_numpy" in vars(kind))

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(value: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(value, tensor_type):
                fetches.number += 1
                fetches.num_bytes += value.dtype.size * int(np.prod(value.shape, dtype=np.int64))
            return function(value, *arguments, **options)

        return wrapper

    originals = [(tensor_type, "_numpy"), (np, "asarray"), (np, "array")]
    functions = [getattr(owner, name) for owner, name in originals]
    for (owner, name), function in zip(originals, functions, strict=True):
        setattr(owner, name, counting(function))
    try:
        yield fetches
    finally:
        for (owner, name), function in zip(originals, functions, strict=True):
            setattr(owner, name, function)
