"""The words of errors on the page: one line, without paths and flags."""

import re
from pathlib import Path

from nst_tf.errors import NstError, printable

_PATH = re.compile(r"(?:[A-Za-z]:)?[/\\](?:[^/\\\s:;,()'\"]+[/\\])+([^/\\\s:;,()'\"]*)")
_FLAG = re.compile(r"(?<!\S)--(?=[a-z])")


def describe(error: NstError) -> str:
    """Writes an error for the page.

    Args:
        error: Any.

    Returns:
        One line; of a file it has the name alone, and of a flag the name of the setting.
    """
    where = f" ({Path(error.where).name})" if error.where else ""
    text = f"{error.what}{where}: {error.why}; {error.remedy}"
    return printable(_FLAG.sub("", _PATH.sub(r"\1", text)))
