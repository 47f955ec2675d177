"""The device that TensorFlow computes on, and the precision that suits it."""

from typing import Any

import tensorflow as tf

from nst_tf import system


def device_name() -> str:
    """Returns the name of the first GPU that TensorFlow sees, otherwise "CPU"."""
    return str(_gpu_details().get("device_name", "CPU"))


def choose_precision(precision: str, *, deterministic: bool) -> str:
    """Chooses what the network computes in.

    Args:
        precision: "float32", "bfloat16", or "auto", bfloat16 where the hardware multiplies it.
        deterministic: Whether the same bits are wanted, which rules bfloat16 out for "auto".

    Returns:
        "float32" or "bfloat16".
    """
    details = _gpu_details()
    capability = details.get("compute_capability", (0, 0)) if details else None
    return system.precision(precision, deterministic=deterministic, graphics=capability)


def _gpu_details() -> dict[str, Any]:
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return {}
    return {"device_name": "GPU", **tf.config.experimental.get_device_details(devices[0])}
