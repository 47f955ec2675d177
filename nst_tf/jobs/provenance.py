"""What a result depends on: the fingerprint of a job, and the environment that computes it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import nst_tf
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
    init = "a file" if config.init_file else config.init
    return {**digests, **_settings(config), "weights": weights_sha256, "init": init}


def input_files(config: Config) -> list[Path]:
    """Returns the files that a result depends on.

    Args:
        config: All settings.
    """
    named = (
        config.content_image, *config.style_image, *config.content_masks, *config.style_masks,
        config.init_file, Path(config.weights),
    )  # fmt: skip
    return [path for path in named if path is not None and path.is_absolute()]


def environment(config: Config, tile_size: int = 0) -> Facts:
    """Collects what computes: versions, also of nst_tf, the processor, its cores, the threads.

    Args:
        config: The threads, and who computes tiles.
        tile_size: The longest side of tiles in pixels; 0 where no image has any.
    """
    threads = config.threads or int(os.environ.get(system.THREADS_VARIABLES[0], 0))
    facts = {
        "nst_tf": nst_tf.__version__,
        **system.versions(),
        **system.processor(),
        "threads": str(threads),
    }
    if tile_size:
        by_workers = "yes" if config.workers or config.cluster else "no"
        facts |= {"tile_size": str(tile_size), "worker processes": by_workers}
    return facts


def differences(saved: Facts, current: Facts) -> list[str]:
    """Compares facts one by one.

    Args:
        saved: Of an earlier run. A setting that its version did not have counts as its default.
        current: Of this one.

    Returns:
        The names of what differs.
    """
    defaults = _settings(Config())
    return [
        name
        for name in {**saved, **current}
        if saved.get(name, defaults.get(name)) != current.get(name, defaults.get(name))
    ]


def _settings(config: Config) -> dict[str, str]:
    values = settings_affecting_result(config)
    return {name: json.dumps(value) for name, value in values.items()}


def _digest(image: ImageArray | Mask) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)  # which makes no copy
    return digest.hexdigest()
