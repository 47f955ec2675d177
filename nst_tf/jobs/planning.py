"""Plans a job without running it: everything that it would be refused for is checked."""

from nst_tf import system
from nst_tf.config import Config
from nst_tf.events import Planned, PlannedLevel
from nst_tf.jobs.estimate import check_memory, estimate
from nst_tf.jobs.inputs import read_inputs
from nst_tf.jobs.output import check_output, check_space


def plan(config: Config, *, overwrite: bool = False) -> Planned:
    """Plans a job; TensorFlow is imported only where there may be a GPU.

    Args:
        config: All settings, with content and style images.
        overwrite: As for `nst_tf.jobs.run`.

    Returns:
        The sizes and iterations, and the memory and time that they are expected to take.

    Raises:
        InputError: An image or a size is wrong.
        MachineError: The output cannot be written, or memory does not suffice.
    """
    check_output(config, overwrite)
    inputs = read_inputs(config)
    check_space(config, inputs.shape)
    expected = estimate(inputs.levels, config, inputs.largest_pixels)
    check_memory(expected, max(inputs.shape), config.print_dpi if config.print_size else 0)
    return Planned(
        tuple(PlannedLevel(*level.shape, level.num_iterations) for level in inputs.levels),
        system.precision(config.precision, deterministic=config.deterministic),
        "CPU" if expected.seconds is not None else "GPU",
        *expected,
        notes=inputs.notes,
    )
