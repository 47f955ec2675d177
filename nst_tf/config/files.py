"""Settings read from YAML files and images, and written for them."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from nst_tf.config import yaml as yaml_file
from nst_tf.config.fields import Source
from nst_tf.config.schema import Config, metadata, with_preset
from nst_tf.errors import InputError
from nst_tf.system import portable_path


def load_config(path: Path | str, overrides: Mapping[str, object] | None = None) -> Config:
    """Reads a configuration file.

    Args:
        path: A YAML file: one flat mapping of settings to values.
        overrides: Values that take precedence over the file's, as from flags; a preset among them
            with all that it stands for. `~` in their paths is the home folder.

    Returns:
        The configuration; settings that neither gives have their defaults.

    Raises:
        InputError: The file cannot be read, or a value is refused; names the line or the flag.
    """
    if not isinstance(path, str | Path):
        raise InputError(
            "cannot read the configuration",
            f"its path is of type {type(path).__name__}",
            "give the path of a YAML file, or its settings to nst_tf.Config",
        )
    path = Path(path)
    values, lines = yaml_file.read_mapping(path)
    folder = path.absolute().parent
    sources = {key: Source(f"{path}, line {line}", folder) for key, line in lines.items()}
    return _config(values, sources, overrides)


def recall_config(
    settings: str, image: Path, overrides: Mapping[str, object] | None = None
) -> Config:
    """Reads the settings that an image was made with.

    Args:
        settings: JSON of `portable`, as stored in the image.
        image: The image file; paths are relative to its folder.
        overrides: Values that take precedence, as from flags.

    Returns:
        The configuration that makes the image again, with the overrides.

    Raises:
        InputError: The settings cannot be read, or a value is refused.
    """
    try:
        values = json.loads(settings)
        values.pop("nst_tf", None)
    except (ValueError, AttributeError) as error:
        raise InputError(
            "cannot read the settings in the image",
            f"they are not what nst_tf writes ({error})",
            "give the settings as flags, or as a YAML file with --config",
            where=image,
        ) from error
    source = Source(f"{image}", image.absolute().parent)
    return _config(values, dict.fromkeys(values, source), overrides)


def given_settings(flags: Mapping[str, object]) -> Config:
    """Makes a configuration of flags alone.

    Args:
        flags: Values by the name of their flag; `~` in a path is the home folder.

    Returns:
        The configuration; settings without a flag have their defaults.

    Raises:
        InputError: A value is refused; names the flag.
    """
    return _config({}, {}, flags)


def _config(
    values: Mapping[str, object],
    sources: Mapping[str, Source],
    overrides: Mapping[str, object] | None,
) -> Config:
    """Lays overrides over values; each brings what its own preset and strength stand for."""
    given = overrides or {}
    flags = {key: Source(f"--{key}", expands_home=True) for key in given}
    return Config.from_mapping(
        {**with_preset(values), **with_preset(given, values)}, {**sources, **flags}
    )


def to_yaml(config: Config) -> str:
    """Writes all settings as YAML.

    Args:
        config: Any configuration.

    Returns:
        YAML in ASCII, from which `load_config` makes an equal configuration anywhere.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared None
    yaml.width = yaml_file.LARGEST
    text = io.StringIO()
    yaml.dump({name: _plain(value) for name, value in config}, text)
    return text.getvalue()


def portable(config: Config) -> dict[str, object]:
    """Returns the settings as plain values, with paths relative to the folder of the output.

    Args:
        config: Any configuration.

    Returns:
        Values that JSON can hold, and that stay valid when all files are moved together.
    """
    folder = config.output_image.parent
    return {name: _plain(value, folder) for name, value in config}


def settings_affecting_result(config: Config) -> dict[str, object]:
    """Returns the `portable` values of the settings that affect the pixels of the result.

    Args:
        config: Any configuration.

    Returns:
        Plain values by name, without the settings that name input files, whose content counts.
        `image_size` is in pixels where `print_size` and `dpi` decide it.
    """
    values = {**portable(config), "image_size": config.asked_size}
    return {name: value for name, value in values.items() if metadata(name).affects_result}


def _plain(value: object, folder: Path | None = None) -> object:
    """Converts a value of a setting to what YAML and JSON hold, and paths to be relative."""
    if isinstance(value, tuple):
        return [_plain(item, folder) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str | Path) and Path(value).is_absolute():
        return portable_path(value, folder) if folder else str(value)
    return value
