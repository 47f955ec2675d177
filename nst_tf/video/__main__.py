"""The command for videos: `python -m nst_tf.video`."""

import sys

from nst_tf.cli.supervisor import run_in_subprocess

if __name__ == "__main__":
    sys.exit(run_in_subprocess("nst_tf.video"))
