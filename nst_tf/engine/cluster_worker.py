"""What a worker process of a cluster does: it computes tiles, and keeps some between two passes."""

import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from nst_tf import system
from nst_tf._version import __version__
from nst_tf.config import NetworkSettings
from nst_tf.errors import MachineError
from nst_tf.models.strips import convolution_class
from nst_tf.models.weights import Parameters
from nst_tf.objective.spec import ObjectiveSpec
from nst_tf.objective.tiled import Task, TileFunctions


class Recipe(NamedTuple):
    """What tiles are computed with: plain data, which pickles.

    Attributes:
        settings: Weights, padding and pooling of VGG19.
        spec: The terms of the objective.
        weights: Parameters of VGG19; None for those of the package.
        adain: Whether the network is the encoder of AdaIN, too.
        precision: What the network computes in.
        versions: Those of the packages by name, which must be the same.
        threads: Threads of TensorFlow.
    """

    settings: NetworkSettings
    spec: ObjectiveSpec
    weights: Parameters | None
    adain: bool
    precision: str
    versions: Mapping[str, str]
    threads: int = 1


def package_versions() -> dict[str, str]:
    """Returns the versions of nst_tf and of the packages that affect results."""
    return {"nst_tf": __version__, **system.versions()}


class Missing(Exception):  # noqa: N818 - it is no error: what is missing is sent again
    """A recipe or a tile is not here: the worker is new, or the tile was at another one."""


def run(key: str, number: int, task: Task, recipe: Recipe | None = None) -> Any:
    """Runs a task on a worker.

    Args:
        key: Names the recipe.
        number: That of the pass; the second pass of an evaluation has that of the first.
        task: Without its tile where the first pass has left it here.
        recipe: The recipe; None where the worker has it.

    Returns:
        The result of `nst_tf.objective.tiled.TileFunctions`.

    Raises:
        Missing: The recipe or the tile is not here.
        MachineError: Packages here have other versions than where the run was started.
    """
    if recipe is not None:
        _add_recipe(key, recipe)
    functions = _functions(key)
    place = key, task.segment, task.tile
    if task.x is None:
        held, x, part = _held.get(place, (None, None, None))
        if held != number:
            raise Missing
        task = task._replace(x=x, part=part)
    elif task.method == "forward":
        _held[place] = number, task.x, task.part
    return functions(task)


def _add_recipe(key: str, recipe: Recipe) -> None:
    """Keeps a recipe, and drops what runs of before have left."""
    with _building:
        if key in _recipes:
            return
        _held.clear()
        while len(_recipes) >= _MOST_RECIPES:
            oldest = next(iter(_recipes))
            del _recipes[oldest]
            _built.pop(oldest, None)
        _recipes[key] = recipe


def _functions(key: str) -> TileFunctions:
    with _building:
        if key not in _recipes:
            raise Missing
        if key not in _built:
            recipe = _recipes[key]
            _check_versions(recipe.versions)
            system.configure_tensorflow(recipe.threads, False)
            _built[key] = _build(recipe)
        return _built[key]


def _check_versions(versions: Mapping[str, str]) -> None:
    own = package_versions()
    for name, version in versions.items():
        if own.get(name) != version:
            raise MachineError(
                "the workers of the cluster are of another kind",
                f"one has {name} {own.get(name)}, the run was started with {version}",
                "install the same versions",
            )


def _build(recipe: Recipe) -> TileFunctions:
    from nst_tf.engine.networks import Networks  # which imports this module

    networks = Networks(
        recipe.settings,
        recipe.spec,
        weights=recipe.weights,
        adain=recipe.adain,
        convolutions=convolution_class(math.inf),  # tiles may be of any size
    )
    return networks.tile_functions(recipe.precision)


_MOST_RECIPES = 4
"""A run has two where it computes in bfloat16 and its targets in float32."""

_recipes: dict[str, Recipe] = {}
_built: dict[str, TileFunctions] = {}
_held: dict[tuple[str, int, int], tuple[int, Any, Any]] = {}
_building = threading.Lock()
