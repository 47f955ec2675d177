"""Errors: fields, one-line messages, exit codes, pickling."""

import copy
import multiprocessing
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from nst_tf.errors import (
    InputError,
    MachineError,
    NstError,
    NumericalError,
    StoppedError,
    did_you_mean,
    printable,
)

ERRORS = [
    NstError("a", "b", "c"),
    InputError("cannot read the image", "no such file", "name a PNG", where=Path("a\n.png")),
    MachineError("the disk is full", "0 bytes left", "free some", where="caf\udce9"),
    NumericalError("the loss is not finite", "nan", "lower style_weight"),
    StoppedError(signal.SIGTERM, "saved o.png", "continue with --resume"),
]


def fields(error):
    return (type(error), error.what, error.why, error.remedy, error.where, error.exit_code,
            str(error))  # fmt: skip


def raise_error(error):
    raise error


def test_the_message_is_built_of_the_fields():
    error = InputError("cannot read the image", "no such file", "name a PNG", where=Path("a\n.png"))
    assert (error.what, error.why, error.remedy, error.where) == (
        "cannot read the image", "no such file", "name a PNG", "a\n.png",
    )  # fmt: skip
    assert str(error) == r"cannot read the image (a\n.png): no such file; name a PNG"
    assert str(NstError("a", "b", "c")) == "a: b; c"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "clone",
    [copy.copy, lambda error: pickle.loads(pickle.dumps(error))],
)
def test_an_error_pickles_and_copies(error, clone):
    error.add_note("a note")
    assert fields(clone(error)) == fields(error)
    assert clone(error).__notes__ == error.__notes__


def test_errors_of_a_spawned_process_pool_arrive_as_they_were_raised():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for error in ERRORS:
            with pytest.raises(type(error)) as caught:
                pool.submit(raise_error, error).result()
            assert fields(caught.value) == fields(error)


def test_an_input_error_is_a_value_error_and_the_others_are_not():
    assert [isinstance(error, ValueError) for error in ERRORS] == [False, True, False, False, False]


def test_exit_codes_are_those_of_the_contract():
    assert [error.exit_code for error in ERRORS] == [70, 2, 3, 4, 143]
    assert StoppedError(signal.SIGINT, "", "").exit_code == 130


def test_a_stopped_error_speaks_of_no_error():
    assert str(ERRORS[-1]) == "stopped: saved o.png; continue with --resume"


def test_text_becomes_one_line_of_printable_ascii():
    assert printable("Zoë\n\x1b[1m画\udce9~") == r"Zo\xeb\n\x1b[1m\u753b\udce9~"


def test_the_nearest_word_is_suggested_or_all_are_listed():
    assert did_you_mean("blok1", ["block1", "other"]) == "did you mean 'block1'?"
    assert did_you_mean("zzz", ["block1", "other"]) == "known are block1, other"
    known = ["image_size", "sized", "content_image", "print_iter"]
    assert did_you_mean("size", known) == "did you mean 'image_size'?"
    assert did_you_mean("--content", [f"--{name}" for name in known]) == (
        "did you mean '--content_image'?"
    )
    assert did_you_mean("", ["a", "b"]) == "known are a, b"
