"""The convolutions of VGG19 and the checking of layer names."""

import re
from collections.abc import Collection, Iterable

from nst_tf.errors import InputError, did_you_mean

LAYERS: dict[str, int] = {
    f"block{block}_conv{conv}": channels
    for block, (convolutions, channels) in enumerate(
        [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)], start=1
    )
    for conv in range(1, convolutions + 1)
}
"""Keras' names of VGG19's convolutions and their numbers of channels, in the network's order
(Simonyan and Zisserman 2015, table 1, column E).
"""


def keras_name(name: str) -> str:
    """Translates the papers' relu4_2 and Caffe's conv4_2 to Keras' block4_conv2.

    Args:
        name: Any name of a layer.

    Returns:
        The name in Keras; another name as it is.
    """
    return re.sub(r"^(?:relu|conv)(\d)_(\d)$", r"block\1_conv\2", name)


def suggest_layer(name: str, known: Collection[str] = LAYERS) -> str:
    """Suggests the nearest layer for a name that is not known.

    Args:
        name: What was received. The papers' relu4_2 and Caffe's conv4_2 are understood.
        known: The network's layers.

    Returns:
        "did you mean 'block4_conv2'? known are block1_conv1, ...", or "known are ..." alone.
    """
    suggestion = did_you_mean(keras_name(name), known)
    if suggestion.startswith("known are"):
        return suggestion
    return f"{suggestion} known are {', '.join(known)}"


def check_layers(names: Iterable[str], known: Collection[str] = LAYERS) -> list[str]:
    """Validates layer names.

    Args:
        names: One layer or several, in any order.
        known: The network's layers.

    Returns:
        The names, each once, in the network's order.

    Raises:
        InputError: There is no such layer, or none was given.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in known:
            raise InputError(
                "cannot select layers", f"unknown layer {name!r}", suggest_layer(str(name), known)
            )
    if not names:
        raise InputError(
            "cannot select layers", "no layer is given", f"known are {', '.join(known)}"
        )
    return [name for name in known if name in names]
