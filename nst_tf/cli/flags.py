"""Command-line flags: one for each setting, and those of the command itself."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from pydantic.fields import FieldInfo

import nst_tf
from nst_tf.batch.plan import is_pattern
from nst_tf.cli.arguments import Words, names_file, read_words, split_files
from nst_tf.cli.batch_flags import BATCH_FLAGS, BatchCommand, plan_batch, take_files
from nst_tf.config.files import given_settings, load_config, recall_config
from nst_tf.config.schema import Config, metadata, require_files, section_of
from nst_tf.config.yaml import scalar
from nst_tf.errors import InputError, did_you_mean
from nst_tf.io import images
from nst_tf.jobs.output import record_folder
from nst_tf.system import expand_home

_SWITCHES = {
    "each": "make an image of each style, in place of one of all styles",
    "overwrite": "let the finished image replace any file at output_image",
    "resume": "continue a run that was interrupted or had fewer iterations, or begin it",
    "dry_run": "print all settings as YAML, with the plan in comments, and exit",
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
        config: The settings of the run, or those that all images of a batch have.
        overwrite: Whether any file at `output_image` may be replaced.
        resume: Whether to continue an interrupted run.
        dry_run: Whether to print the settings and exit.
        answer: The text to print in place of a run, of the help or the version, or "".
        batch: What is made of several images or settings; None for a run of one image.
    """

    config: Config
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False
    answer: str = ""
    batch: BatchCommand | None = None


_USAGE = """\
usage: nst-tf CONTENT STYLE [STYLE ...] [-o OUT] [--KEY=VALUE ...]
       nst-tf --config=FILE.yaml [--KEY=VALUE ...]
       nst-tf --content_image FILE ... --style_image FILE ... --output_dir=FOLDER [--each]
`python -m nst_tf` and `python -m nst_tf.main` are the same command. Lists of files have commas, or
their flag is repeated; hyphens in the name of a flag mean underscores.
"""


class FlagSet(flags.FlagValues):  # type: ignore[misc]
    """absl's parser, without its own `--flagfile`, which would read any file."""

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        """Returns the arguments as they are."""
        return list(argv)


def parse(argv: Sequence[str]) -> Command:
    """Parses the command line and the configuration file that it names.

    A path in a flag is relative to the current folder, and `~` in it is the home folder.
    `--content_image`, `--style_image` and the masks are lists of files, with commas or one after
    another, and may be repeated; weights and layers are lists with commas. Other words are the
    content image and the style images. The images are files, folders or patterns.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The settings: flags take precedence over the file, and the file over defaults.

    Raises:
        InputError: A flag or a setting is unknown, not allowed, missing, or given two values.
    """
    defined = _define()
    lists = [name for name in Config.model_fields if _is_list(name)]
    words = read_words(argv, {name: defined[name].boolean for name in defined}, lists)
    try:
        defined(["nst_tf", *words.flags])
    except (flags.Error, ValueError) as error:
        raise InputError("cannot read the flags", str(error), "see --help") from error
    if defined["help"].value:
        return Command(Config(), answer=help_text())
    if defined["version"].value:
        return Command(Config(), answer=f"nst_tf {nst_tf.__version__}\n")
    given = {
        name: value_of(name, field, defined[name].value)
        for name, field in Config.model_fields.items()
        if defined[name].present
    }
    _add_files(given, words)
    if defined["config"].present and defined["rerun"].present:
        raise InputError(
            "--config and --rerun do not go together",
            "both set everything",
            "leave one of them out, and change single settings by flags",
        )
    batch_flags = {name: defined[name].value for name in BATCH_FLAGS if defined[name].present}
    asked = take_files(given, batch_flags, each=defined["each"].value)
    if defined["config"].present:
        config = load_config(expand_home(defined["config"].value), given)
    elif defined["rerun"].present:
        config = _recalled(Path(expand_home(defined["rerun"].value)), given)
    else:
        config = given_settings(given)
    batch = None
    if asked is None:
        require_files(config)
    else:
        batch = plan_batch(config, asked)
    return Command(
        config,
        overwrite=defined["overwrite"].value,
        resume=defined["resume"].value,
        dry_run=defined["dry_run"].value,
        batch=batch,
    )


def _add_files(given: dict[str, Any], words: Words) -> None:
    """Adds the content images and the style images that are given without a flag."""
    files = words.files
    for word in (*files, *words.further):
        _check_file(word)
    if not files:
        return
    if "content_image" in given:
        raise InputError(
            f"unexpected argument {files[0]!r}",
            "the content image is given by its flag",
            "give the style images by theirs, or all images without flags: CONTENT STYLE",
        )
    *inputs, last = files
    is_input = names_file(last) or is_pattern(last)
    is_output = not is_input and len(inputs) > 1 and all(map(names_file, inputs))
    if is_output and "output_image" not in given:
        raise InputError(
            f"unexpected argument {last!r}",
            "no such file, and all images without a flag are read",
            f"write -o {last} if it is the image to write",
        )
    given["content_image"] = [files[0]]
    styles = [name for word in files[1:] for name in split_files(word)]
    if styles:
        given["style_image"] = [*styles, *given.get("style_image", [])]


def _check_file(word: str) -> None:
    """Refuses words that are no images, but were meant to be something else."""
    name, equals, _ = word.partition("=")
    why, remedy = "", ""
    if Path(word).suffix.lower() in (".yaml", ".yml"):
        why, remedy = "a file of settings has a flag", f"write --config={word}"
    elif not word.strip("-") or not name.strip("-"):
        why, remedy = "it is no file", "write CONTENT STYLE, --config=FILE or --KEY=VALUE"
    elif equals and not names_file(word):
        hint = did_you_mean(f"--{name}", [f"--{field}" for field in Config.model_fields])
        if hint.startswith("did you"):
            why, remedy = "a setting begins with two dashes", hint
    if why:
        raise InputError(f"unexpected argument {word!r}", why, remedy)


def _recalled(image: Path, given: dict[str, object]) -> Config:
    settings = images.settings_of(image)
    if settings is None:
        recorded = record_folder(image) / "config.yaml"
        raise InputError(
            "there are no settings to recall",
            "the file is not there, nst_tf did not write it, or its metadata were removed",
            f"give --config={recorded}" if recorded.exists() else "name an image that nst_tf made",
            where=image,
        )
    return recall_config(settings, image, given)


def help_text() -> str:
    """Returns the text of `--help`: one line for each flag."""
    lines = [*_USAGE.splitlines(), "", "Command"]
    lines += [help_line(name, text) for name, text in {**_SOURCES, **_SWITCHES}.items()]
    lines += ["", "Several images"]
    lines += [help_line(name, text) for name, text in BATCH_FLAGS.items()]
    for heading, group in itertools.groupby(
        Config.model_fields.items(), lambda item: section_of(item[0]).heading
    ):
        lines += ["", heading]
        lines += [help_line(name, field=field) for name, field in group]
    return "\n".join(lines) + "\n"


def _define() -> FlagSet:
    defined = FlagSet()
    for name, text in _SOURCES.items():
        define_source(defined, name, text)
    for name, text in _SWITCHES.items():
        define_switch(defined, name, text)
    for name, field in Config.model_fields.items():
        define_setting(defined, name, field)
    for name, text in BATCH_FLAGS.items():
        if name == "sweep":
            flags.DEFINE_multi_string(name, None, text, flag_values=defined)
        else:
            _define_flag(defined, name, text)
    return defined


def define_source(defined: FlagSet, name: str, text: str) -> None:
    """Defines a flag that names a file of settings.

    Args:
        defined: The flags so far.
        name: Of the flag.
        text: What the file is.
    """
    _define_flag(defined, name, text)


def define_switch(defined: FlagSet, name: str, text: str) -> None:
    """Defines a flag that is false unless it is given.

    Args:
        defined: The flags so far.
        name: Of the flag.
        text: What it does.
    """
    _define_flag(defined, name, text, boolean=True, default=False)


def define_setting(defined: FlagSet, name: str, field: FieldInfo) -> None:
    """Defines the flag of a setting.

    Args:
        defined: The flags so far.
        name: Of the setting.
        field: Its declaration.
    """
    if _is_list(name):
        flags.DEFINE_multi_string(name, None, field.description, flag_values=defined)
    else:
        _define_flag(defined, name, field.description or "", boolean=field.annotation is bool)


def _define_flag(
    defined: FlagSet, name: str, text: str, *, boolean: bool = False, default: bool | None = None
) -> None:
    """Defines a flag of one value."""
    if boolean:
        parser, serializer = flags.BooleanParser(), None
    else:
        parser, serializer = flags.ArgumentParser(), flags.ArgumentSerializer()
    flag = _SingleFlag(parser, serializer, name, default, text, boolean=boolean)
    flags.DEFINE_flag(flag, defined)


class _SingleFlag(flags.Flag):  # type: ignore[misc]
    """A flag that may be repeated with the same value only."""

    def parse(self, argument: str) -> None:
        before = self.value if self.present else None
        super().parse(argument)
        if before not in (None, self.value):
            why = f"it is given twice, as {_written(before)} and {_written(self.value)}"
            raise InputError(f"--{self.name} has one value", why, "give it once")


def value_of(name: str, field: FieldInfo, given: Any) -> Any:
    """Splits lists of files, and converts the text of a number; the schema reads all other text.

    Args:
        name: Of the setting.
        field: Its declaration.
        given: The value of its flag.
    """
    if _is_list(name):
        return [file for text in given for file in split_files(text)]
    return scalar(given) if field.annotation in (int, float) and isinstance(given, str) else given


def _is_list(name: str) -> bool:
    """Whether a flag takes several files, as that of the content image does for a batch."""
    return name == "content_image" or (name in Config.model_fields and metadata(name).repeatable)


def help_line(name: str, text: str = "", field: FieldInfo | None = None) -> str:
    """Returns the line of a flag in the help.

    Args:
        name: Of the flag.
        text: What it does.
        field: The declaration of the setting, whose description and default are told in its place.
    """
    if field is not None:
        default = _written(None if field.default_factory else field.default)
        text = f"{field.description}" + (f" [{default}]" if default else "")
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
