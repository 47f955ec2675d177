"""The command: `python -m nst_tf.main`."""

import sys
from collections.abc import Sequence

from nst_tf.cli.supervisor import run_in_subprocess


def main(argv: Sequence[str]) -> int:
    """Runs the command in this process.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code: 0 finished, 1 some images of a batch failed, 2 wrong input, 3 the machine
        refused, 4 numerical failure, 70 a defect, 128 + N stopped by signal N.
    """
    from nst_tf.cli import command  # not in the supervising process

    return command.main(argv)


if __name__ == "__main__":
    sys.exit(run_in_subprocess())
