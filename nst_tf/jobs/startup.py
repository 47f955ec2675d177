"""Imports TensorFlow with the settings of a job."""

from nst_tf import system
from nst_tf.config import Config
from nst_tf.errors import InputError


def start_tensorflow(config: Config) -> None:
    """Imports TensorFlow, and sets its threads and determinism for the whole process.

    Args:
        config: `threads` and `deterministic`.

    Raises:
        InputError: TensorFlow computes in this process already, with another number of threads.
    """
    try:
        system.prepare_tensorflow(config.threads, config.deterministic)
    except RuntimeError as error:
        raise InputError(
            "threads and deterministic cannot be changed any more",
            f"TensorFlow computes in this process already ({str(error)[:100]})",
            "give the settings of the job before, or use nst_tf.jobs.isolated",
        ) from error
