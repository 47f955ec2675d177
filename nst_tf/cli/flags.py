"""Command-line flags: one for each setting, and those of the command itself."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

import nst_tf
from nst_tf.config.fields import Source
from nst_tf.config.files import load_config, recall_config
from nst_tf.config.schema import Config, metadata, require_files, section_of
from nst_tf.config.yaml import scalar
from nst_tf.errors import InputError, did_you_mean
from nst_tf.io import images

_SWITCHES = {
    "overwrite": "replace a file at output_image that nst_tf did not write",
    "resume": "continue an interrupted run",
    "dry_run": "print all settings as YAML and exit",
    "debug": "show the traceback of an error",
    "help": "print this help and exit",
    "version": "print the version and exit",
}
_SOURCES = {
    "config": "a YAML file of settings; flags take precedence",
    "rerun": "an image made by nst_tf, whose settings to use again; flags take precedence",
}


class Command(NamedTuple):
    """The parsed command line.

    Attributes:
        config: The settings of the run.
        overwrite: Whether any file at `output_image` may be replaced.
        resume: Whether to continue an interrupted run.
        dry_run: Whether to print the settings and exit.
        answer: The text to print in place of a run, of the help or the version, or "".
    """

    config: Config
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False
    answer: str = ""


class _Flags(flags.FlagValues):  # type: ignore[misc]
    """absl's parser, without its own `--flagfile`, which would read any file."""

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        return list(argv)


def parse(argv: Sequence[str]) -> Command:
    """Parses the command line and the configuration file that it names.

    A path in a flag is relative to the current folder. `--style_image` and the masks may be
    repeated; weights and layers are lists with commas.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The settings: flags take precedence over the file, and the file over defaults.

    Raises:
        InputError: A flag or a setting is unknown, not allowed or missing.
    """
    defined = _define()
    try:
        leftover = defined(["nst_tf", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [f"--{name}" for name in defined]
        hint = did_you_mean(f"--{error.flagname}", known)
        raise InputError(
            f"unknown flag --{error.flagname}", "no setting has this name", hint
        ) from error
    except (flags.Error, ValueError) as error:
        raise InputError("cannot read the flags", str(error), "see --help") from error
    if leftover:
        raise InputError(
            f"unexpected argument {leftover[0]!r}",
            "every setting is a flag",
            "write --config=FILE or --KEY=VALUE",
        )
    if defined["help"].value:
        return Command(Config(), answer=help_text())
    if defined["version"].value:
        return Command(Config(), answer=f"nst_tf {nst_tf.__version__}\n")
    given = {
        name: _value(name, defined[name].value)
        for name in Config.model_fields
        if defined[name].present
    }
    if defined["config"].present and defined["rerun"].present:
        raise InputError(
            "--config and --rerun do not go together",
            "both set everything",
            "leave one of them out, and change single settings by flags",
        )
    if defined["config"].present:
        config = load_config(defined["config"].value, given)
    elif defined["rerun"].present:
        config = _recalled(Path(defined["rerun"].value), given)
    else:
        sources = {name: Source(f"--{name}") for name in given}
        config = Config.from_mapping(given, sources)
    require_files(config)
    return Command(
        config,
        overwrite=defined["overwrite"].value,
        resume=defined["resume"].value,
        dry_run=defined["dry_run"].value,
    )


def _recalled(image: Path, given: dict[str, object]) -> Config:
    settings = images.settings_of(image)
    if settings is None:
        raise InputError(
            "there are no settings to recall",
            "the file is not there, nst_tf did not write it, or its metadata were removed",
            "name an image that nst_tf made",
            where=image,
        )
    return recall_config(settings, image, given)


def help_text() -> str:
    """Returns the text of `--help`: one line for each flag."""
    lines = ["usage: python -m nst_tf.main --config=FILE.yaml [--KEY=VALUE ...]", "", "Command"]
    lines += [_line(name, text) for name, text in {**_SOURCES, **_SWITCHES}.items()]
    for heading, group in itertools.groupby(
        Config.model_fields.items(), lambda item: section_of(item[0]).heading
    ):
        lines += ["", heading]
        for name, field in group:
            default = _written(field.default)
            lines.append(_line(name, f"{field.description}" + (f" [{default}]" if default else "")))
    return "\n".join(lines) + "\n"


def _define() -> _Flags:
    defined = _Flags()
    defined.set_gnu_getopt()
    for name, text in _SOURCES.items():
        flags.DEFINE_string(name, None, text, flag_values=defined)
    for name, text in _SWITCHES.items():
        flags.DEFINE_boolean(name, False, text, flag_values=defined)
    for name, field in Config.model_fields.items():
        if field.annotation is bool:
            define = flags.DEFINE_boolean
        elif metadata(name).repeatable:
            define = flags.DEFINE_multi_string
        else:
            define = flags.DEFINE_string
        define(name, None, field.description, flag_values=defined)
    return defined


def _value(name: str, given: object) -> object:
    """Converts the text of a number; the schema reads all other text."""
    is_number = Config.model_fields[name].annotation in (int, float)
    return scalar(given) if is_number and isinstance(given, str) else given


def _line(name: str, text: str) -> str:
    return f"  --{name:<21}{text}"


def _written(default: object) -> str:
    """Writes a default in the form of its flag."""
    if default is None or default == ():
        return ""
    if isinstance(default, dict):
        return ",".join(
            name if weight == 1 else f"{name}:{weight}" for name, weight in default.items()
        )
    return str(default).lower() if isinstance(default, bool) else f"{default}"
