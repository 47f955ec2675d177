"""The command for the local web page: `python -m nst_tf.web`."""

import sys

from nst_tf.web.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
