"""What a result depends on: the fingerprint of a job, and the environment that computes it."""

import hashlib
import json
from collections.abc import Mapping

from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.files import settings_affecting_result
from nst_tf.image.arrays import ImageArray
from nst_tf.image.masks import Mask

Facts = Mapping[str, str]
"""Texts by name, which are compared one by one."""


def fingerprint(
    config: Config, inputs: Mapping[str, ImageArray | Mask | None], weights_sha256: str
) -> Facts:
    """Collects what the pixels of a result depend on.

    Args:
        config: All settings.
        inputs: The decoded input images, by the name of the setting that gives them.
        weights_sha256: The SHA-256 of the network's weights.

    Returns:
        A text for each setting and each input; two jobs whose fingerprints are equal make the same
        image in the same environment.
    """
    digests = {name: "" if image is None else _digest(image) for name, image in inputs.items()}
    settings = {
        name: json.dumps(value) for name, value in settings_affecting_result(config).items()
    }
    init = "a file" if config.init_file else config.init
    return {**digests, **settings, "weights": weights_sha256, "init": init}


def environment(config: Config) -> Facts:
    """Collects what computes: versions of packages, the processor, its cores, the threads."""
    return {**system.versions(), **system.processor(), "threads": str(config.threads)}


def differences(one: Facts, other: Facts) -> str:
    """Returns the names of what differs, with commas between them; empty where nothing does."""
    return ", ".join(name for name in {**one, **other} if one.get(name) != other.get(name))


def _digest(image: ImageArray | Mask) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()
