"""The README and the pages of docs/: their blocks of code, and the commands in them."""

import re
import shlex
from functools import cache

from tests.command import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
"""The text of each page by its path in the project."""


@cache
def blocks(page, language):
    """Returns the blocks of a page in a language, such as "bash" or "python"."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def commands():
    """Returns all commands in blocks of bash, each once, without those of a shell before them."""
    lines = [
        line
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return list(dict.fromkeys(part.strip() for line in lines for part in line.split("&&")))


def commands_in_text():
    """Returns the commands that stand in sentences, each once."""
    found = [
        part.strip()
        for text in PAGES.values()
        for command in re.findall(r"`((?:python|pip|nst-tf|sphinx-build) [^`]+)`", text)
        for part in command.split("&&")
    ]
    return list(dict.fromkeys(found))


def makes_images(command):
    """Whether a command is that of nst_tf for images, with what follows its name."""
    return re.match(r"(?:nst-tf|python -m nst_tf(?:\.main)?) ", command)


def arguments(command):
    """Returns the words after the command's name."""
    return shlex.split(re.sub(r"^(nst-tf|python -m [\w.]+) ", "", command), comments=True)


def shrunk(code):
    """Returns code in Python whose images have 64 pixels and at most one iteration."""

    def small(match):
        return f"image_size=64, num_iterations={min(1, int(match[1] or 1))}"

    return re.sub(r"image_size=\d+(?:, num_iterations=(\d+))?", small, code)
