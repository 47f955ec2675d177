"""Writes the list of modules in CONTRIBUTING.md: `python docs/modules.py`.

Each module has the first line of its docstring. Packages stand in the order of import-linter's
contract in setup.cfg: each imports only from those below it.
"""

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "nst_tf"
_FILE = _ROOT / "CONTRIBUTING.md"
_BEGIN, _END = "<!-- written by python docs/modules.py -->\n", "<!-- end of the list -->"


def module_list() -> str:
    """Returns the list in Markdown."""
    return "".join(f"{line}\n" for name in _layers() for line in _lines(name))


def _layers() -> list[str]:
    """Returns the names of packages and modules, from the top layer to the bottom one."""
    settings = configparser.ConfigParser()
    settings.read(_ROOT / "setup.cfg", encoding="utf-8")
    return re.findall(r"\w+", settings["importlinter:contract:layers"]["layers"])


def _lines(name: str) -> Iterator[str]:
    """Yields the line of a module, or those of a package and of its modules."""
    folder = _PACKAGE / name
    if not folder.is_dir():
        yield f"- `{name}.py`: {_summary(folder.with_suffix('.py'))}"
        return
    yield f"- `{name}/`: {_summary(folder / '__init__.py')}"
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"  - `{path.name}`: {_summary(path)}"


def _summary(path: Path) -> str:
    """Returns the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def with_module_list(text: str) -> str:
    """Replaces the list in a text.

    Args:
        text: That of CONTRIBUTING.md.
    """
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{module_list()}\n{_END}{rest.partition(_END)[2]}"


def main() -> None:
    """Writes the list."""
    text = with_module_list(_FILE.read_text(encoding="utf-8"))
    _FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
