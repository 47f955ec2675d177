"""The local web page: `python -m nst_tf.web`."""
