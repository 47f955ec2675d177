"""Conversion and static checks of the arguments of losses."""

import tensorflow as tf

from nst_tf.errors import InputError


def as_floating(value: object, name: str, shape: list[int | None]) -> tf.Tensor:
    """Converts an argument to a tensor of at least single precision.

    Args:
        value: A tensor or an array.
        name: The argument's name, for the error message.
        shape: The expected shape; None stands for any size.

    Returns:
        A tensor of type float32 or float64; bfloat16 and float16 become float32.

    Raises:
        InputError: The type is not floating, or the static shape is not compatible with `shape`.
    """
    tensor = tf.convert_to_tensor(value)
    if not tensor.dtype.is_floating:
        raise InputError(
            f"{name} has a wrong type",
            f"it is {tensor.dtype.name}, allowed are float32, float64, bfloat16 and float16",
            "cast it to float32",
        )
    if not tensor.shape.is_compatible_with(shape):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(
            f"{name} has a wrong shape",
            f"it is {tensor.shape}, expected is ({sizes})",
            "give a batch, channels last",
        )
    return tensor if tensor.dtype.size >= 4 else tf.cast(tensor, tf.float32)


def check_equal(a: tf.Tensor, b: tf.Tensor, names: str) -> None:
    """Refuses a pair of arguments that cannot be compared.

    Args:
        a: A tensor, [B, ...].
        b: A tensor of the same shape, or with a batch of 1, which is compared with each of `a`.
        names: The two arguments, for the error message.

    Raises:
        InputError: The types differ, or the static shapes do.
    """
    same_batch = a.shape[:1].is_compatible_with(b.shape[:1]) or 1 in (a.shape[0], b.shape[0])
    if a.dtype != b.dtype or not (same_batch and a.shape[1:].is_compatible_with(b.shape[1:])):
        raise InputError(
            f"{names} cannot be compared",
            f"they are {a.dtype.name} {a.shape} and {b.dtype.name} {b.shape}",
            "give both in one type and of one shape",
        )
