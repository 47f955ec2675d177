"""Strict loader for untrusted YAML; records line numbers."""

import contextlib
import json
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from nst_tf.errors import InputError
from nst_tf.io import files

LARGEST = 64 * 1024
DEEPEST = 20

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"
)
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
# No number worth giving is longer, and Python refuses to convert 5000 digits.
_LONGEST_NUMBER = 60


def scalar(text: str) -> object:
    """Converts an unquoted YAML scalar to its type.

    The rules are those of YAML 1.2's core schema, except that `010`, `0o17` and `0x1F` are text,
    as are `1_000`, `yes`, `no`, `on`, `off`, times and dates.

    Args:
        text: The scalar, without surrounding space.

    Returns:
        An int, a float, a bool, None, or the text itself.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text.lower()):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read_mapping(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """Reads one mapping from a YAML file.

    Refuses anchors, aliases, merge keys, tags, repeated keys, keys that are not text, a second
    document, more than 64 KB, and more than 20 levels.

    Args:
        path: The file.

    Returns:
        The values (dict, list, str, int, float, bool, None) by key, and the line of each key.

    Raises:
        InputError: The file cannot be read, or is not such YAML.
    """
    data = files.read(path, "the configuration", LARGEST, "give a YAML file with --config")
    root = _compose(_without_tabs(_decode(data, path)), path)
    if root is None or (isinstance(root, ScalarNode) and not root.value and root.style is None):
        raise InputError(
            "the configuration is empty",
            "it sets nothing",
            "write KEY: VALUE lines, or leave out --config",
            where=path,
        )
    if not isinstance(root, MappingNode):
        line = root.start_mark.line + 1
        raise _refusal(path, line, "it must be a mapping", "write KEY: VALUE lines")
    values = _mapping(root, path)
    return values, {_text(key): key.start_mark.line + 1 for key, _ in root.value}


def _decode(data: bytes, path: Path) -> str:
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise _refusal(
            path, line, f"it is not {encoding.removesuffix('-sig')} text", "save it as UTF-8"
        ) from error


def _without_tabs(text: str) -> str:
    """Replaces the tabs of JSON, which the parser of YAML refuses; JSON's text has none."""
    if "\t" in text and text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            return text.replace("\t", " ")
    return text


def _compose(text: str, path: Path) -> Node | None:
    remedy = "correct the YAML"
    try:
        # Composing recurses, so the depth is checked on the events first.
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, MappingStartEvent | SequenceStartEvent)
            depth -= isinstance(event, MappingEndEvent | SequenceEndEvent)
            reason = _forbidden(event, depth)
            if reason:
                raise _refusal(path, event.start_mark.line + 1, reason, "write plain values")
        root: Node | None = YAML(typ="safe", pure=True).compose(text)
        return root
    except InputError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = str(error.problem or error.context).split("  in ")[0]
        if "'\\t'" in problem:
            remedy = "indent with spaces in place of tabs"
        raise _refusal(path, line, problem, remedy) from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _refusal(path, line, "it holds a control character", remedy) from error
    except Exception as error:  # a parser fed with anything may raise anything
        raise _refusal(path, 1, f"the parser failed with {error!r:.60}", remedy) from error


def _forbidden(event: Event, depth: int) -> str:
    if depth > DEEPEST:
        return f"it is nested deeper than {DEEPEST} levels"
    if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
        return "anchors (&) and aliases (*) are not allowed"
    if getattr(event, "ctag", None):
        return "tags (!) are not allowed"
    return ""


def _mapping(node: MappingNode, path: Path) -> dict[str, object]:
    values: dict[str, object] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode) or not isinstance(_value(key, path), str):
            name = f"the key {key.value}" if isinstance(key, ScalarNode) else "a key"
            raise _refusal(path, line, f"{name:.60} is not text", "write KEY: VALUE lines")
        if key.value == "<<":
            raise _refusal(path, line, "merge keys (<<) are not allowed", "write plain values")
        name = _text(key)
        if name in lines:
            why = f"{name!r:.60} is set twice, first on line {lines[name]}"
            raise _refusal(path, line, why, "remove one of the two")
        lines[name] = line
        values[name] = _value(value, path)
    return values


def _value(node: Node, path: Path) -> object:
    if isinstance(node, MappingNode):
        return _mapping(node, path)
    if isinstance(node, SequenceNode):
        return [_value(item, path) for item in node.value]
    is_plain = isinstance(node, ScalarNode) and node.style is None
    return scalar(node.value) if is_plain else _text(node)


def _text(node: Node) -> str:
    r"""Returns the text of a scalar; `"\ud83c\udfa8"`, as JSON writes it, is one character."""
    text: str = node.value
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _refusal(path: Path, line: int, why: str, remedy: str) -> InputError:
    return InputError("cannot read the configuration", why, remedy, where=f"{path}, line {line}")
