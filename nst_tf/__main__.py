"""The command: `python -m nst_tf`, the same as `python -m nst_tf.main`."""

import sys

from nst_tf.cli.supervisor import run_in_subprocess

if __name__ == "__main__":
    sys.exit(run_in_subprocess())
