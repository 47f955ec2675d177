"""The minimizers on functions whose minima are known."""

import contextlib
import gc
import io
import subprocess
import sys
import types
import weakref

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from tensorflow.python.framework import ops
from threadpoolctl import threadpool_info

from nst_tf import optimizers
from nst_tf.errors import InputError
from nst_tf.optimizers import StopReason, lbfgs, monitor

QUASI_NEWTON = ["lbfgs", "l-bfgs-b", "bfgs"]
METHODS = [*QUASI_NEWTON, "adam"]
BOUNDED = ["lbfgs", "l-bfgs-b", "adam"]
ON_DEVICE = ["lbfgs", "adam"]


def minimize(method, function, initial, bounds=None, max_iterations=300, **options):
    """With the options of the engine, if none are given, and the initial point in float32."""
    defaults = {"initial_step": 10.0 if method == "adam" else 2.0, "tolerance": 1e-4}
    return optimizers.minimize(
        function,
        np.asarray(initial, np.float32),
        method=method,
        bounds=bounds,
        max_iterations=max_iterations,
        **defaults | options,
    )


def rosenbrock(x):
    """Known minimum: 0 at (1, ..., 1)."""
    flat = np.asarray(x, np.float64).ravel()
    gradient = scipy.optimize.rosen_der(flat).reshape(x.shape)
    return float(scipy.optimize.rosen(flat)), gradient


def bowl(target, curvature):
    """Known minimum: 0 at `target`; within a box, at the target clipped to it."""

    def function(x):
        difference = np.asarray(x, np.float64) - target
        return float(np.sum(curvature * difference**2) / 2), curvature * difference

    return function


def on_device(target, curvature):
    """A bowl, and a little of a quartic, in operations of TensorFlow."""
    target, curvature = (tf.constant(array, tf.float32) for array in (target, curvature))

    def function(x):
        difference = x - target
        value = tf.reduce_sum(curvature * difference**2 / 2 + 1e-3 * difference**4)
        return value, curvature * difference + 4e-3 * difference**3

    return function


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_finds_the_minimum_of_rosenbrocks_function(method):
    found = minimize(method, rosenbrock, np.full((2, 3), -1.0))
    assert found.x.shape == (2, 3)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)
    assert found.value < 1e-6


@pytest.mark.parametrize("bounds", [None, (-3.0, 4.0), (-np.inf, 2.0)])
@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_reaches_the_accuracy_of_float64(method, bounds):
    # The minimum is at 1/3, which float32 holds to 1e-8 only.
    def function(x):
        value, gradient = rosenbrock(3.0 * x.numpy())
        return value, 3.0 * gradient

    initial = np.full((2, 3), -0.4)
    found = optimizers.minimize(function, initial, method=method, bounds=bounds, tolerance=0)
    assert found.x.dtype == tf.float64
    np.testing.assert_allclose(found.x, 1 / 3, rtol=0, atol=1e-10)


def test_the_default_method_and_options_find_the_minimum():
    found = optimizers.minimize(rosenbrock, [-1.0, 2.0, 0.5])
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [1e-3, 1e4])
def test_initial_step_is_in_the_unit_of_the_variables(method, number):
    found = optimizers.minimize(
        bowl(number * np.array([[3.0, -1.0, 2.0]]), np.array([1.0, 2.0, 4.0])),
        np.zeros((1, 3)),
        method=method,
        initial_step=number / 10,
        tolerance=0,
        max_iterations=500,
    )
    np.testing.assert_allclose(found.x, number * np.array([[3.0, -1.0, 2.0]]), rtol=1e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("initial", "dtype"),
    [
        ([[-1.0, 2.0]], "float32"),
        ([[-1, 2]], "float32"),
        (np.array([[-1.0, 2.0]]), "float64"),
        (np.array([[-1, 2]], np.int16), "float32"),
        (tf.constant([[-1.0, 2.0]]), "float32"),
        (tf.constant([[-1.0, 2.0]], tf.float64), "float64"),
        (tf.Variable([[-1.0, 2.0]]), "float32"),
    ],
    ids=["list", "integers", "array", "int16", "tensor", "float64", "variable"],
)
def test_takes_lists_arrays_and_tensors_and_keeps_the_type(method, initial, dtype):
    seen = set()

    def function(x):
        seen.add((tf.is_tensor(x), x.dtype.name, tuple(x.shape)))
        return rosenbrock(x)

    found = optimizers.minimize(function, initial, method=method, max_iterations=4)
    assert seen == {(True, dtype, (1, 2))}
    assert (found.x.dtype.name, found.x.shape) == (dtype, (1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_takes_values_and_gradients_as_tensors_arrays_and_numbers(method):
    def as_tensors(x):
        value, gradient = rosenbrock(x)
        return tf.constant(value, tf.float64), tf.constant(gradient, tf.float32)

    def as_lists(x):
        value, gradient = rosenbrock(x)
        return np.float64(value), gradient.tolist()

    arrays = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=6)
    for function in (as_tensors, as_lists):
        found = minimize(method, function, [[-1.0, 2.0]], max_iterations=6)
        np.testing.assert_array_equal(found.x, arrays.x)
        assert found.value == arrays.value


@pytest.mark.parametrize("method", METHODS)
def test_minimizes_a_scalar(method):
    found = minimize(method, lambda x: ((x - 3.0) ** 2, 2.0 * (x - 3.0)), 0.5, initial_step=0.5,
                     tolerance=0)  # fmt: skip
    assert found.x.shape == ()
    np.testing.assert_allclose(found.x, 3.0, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_may_give_the_same_array_each_time(method):
    buffer = np.zeros((1, 3))

    def reused(x):
        value, buffer[:] = rosenbrock(x)
        return value, buffer

    found = minimize(method, reused, [[-1.0, 2.0, 0.5]], max_iterations=12)
    expected = minimize(method, rosenbrock, [[-1.0, 2.0, 0.5]], max_iterations=12)
    np.testing.assert_array_equal(found.x, expected.x)


@pytest.mark.parametrize("method", [*ON_DEVICE, "l-bfgs-b"])
def test_takes_a_tf_function_and_traces_it_once(method, random):
    traces = 0

    @tf.function
    def function(x):
        nonlocal traces
        traces += 1
        return tf.reduce_sum((x - 3.0) ** 2), 2.0 * (x - 3.0)

    found = minimize(method, function, random.normal(size=(3, 4)), initial_step=0.5)
    assert traces == 1
    np.testing.assert_allclose(found.x, 3.0, atol=0.1)


def test_the_value_is_not_rounded_to_float32():
    def function(x):
        value, gradient = rosenbrock(x)
        return 1e9 + value, gradient  # float32 holds 1e9 to 64

    found = optimizers.minimize(function, np.full((2, 3), -1.0), tolerance=0)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-2)
    assert found.value - 1e9 < 1e-4


def test_finds_the_minimum_in_a_box(random):
    target = random.uniform(-200, 455, (6, 7))
    found = minimize("l-bfgs-b", bowl(target, np.geomspace(1, 50, 42).reshape(6, 7)),
                     np.full((6, 7), 128.0), bounds=(0.0, 255.0))  # fmt: skip
    np.testing.assert_allclose(found.x, np.clip(target, 0, 255), atol=1e-2)


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b"])
def test_finds_the_minimum_with_one_bound(method, random):
    target = random.uniform(-200, 455, (6, 7))
    found = minimize(method, bowl(target, np.geomspace(1, 50, 42).reshape(6, 7)),
                     np.full((6, 7), 128.0), bounds=(0.0, np.inf), tolerance=0)  # fmt: skip
    np.testing.assert_allclose(found.x, np.clip(target, 0, None), atol=1e-1)


@pytest.mark.parametrize("method", BOUNDED)
def test_never_leaves_the_box(method, random):
    target = random.uniform(-900, 900, (5, 8))
    seen = []

    def watched(x):
        seen.append(x.numpy())
        return bowl(target, 1.0)(x)

    minimize(method, watched, np.full((5, 8), 3.0), bounds=(0.0, 255.0), max_iterations=30)
    assert len(seen) > 2
    assert min(x.min() for x in seen) >= 0.0
    assert max(x.max() for x in seen) <= 255.0


@pytest.mark.parametrize("method", BOUNDED)
def test_an_initial_point_outside_the_box_is_clipped(method):
    found = minimize(method, rosenbrock, [[-7.0, 2.0]], bounds=(-1.0, 1.5), max_iterations=0)
    assert found.x.numpy().tolist() == [[-1.0, 1.5]]


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_leaves_the_box_where_there_is_none(method):
    found = minimize(method, bowl(np.full((3, 4), 300.0), 1.0), np.zeros((3, 4)))
    np.testing.assert_allclose(found.x, 300.0, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30])
def test_the_path_does_not_depend_on_the_unit_of_the_loss(method, scale):
    def scaled(x):
        value, gradient = rosenbrock(x)
        return value * scale, gradient * scale

    plain = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=12)
    other = minimize(method, scaled, [[-1.0, 2.0]], max_iterations=12)
    np.testing.assert_allclose(other.x, plain.x, rtol=1e-3)


@pytest.mark.parametrize("bounds", [None, (0.0, 255.0)])
@pytest.mark.parametrize("method", METHODS)
def test_the_first_trial_changes_no_variable_by_more_than_initial_step(method, bounds, random):
    seen = []
    target = random.uniform(0, 255, (4, 5))

    def watched(x):
        seen.append(x.numpy())
        return bowl(target, 1e4)(x)

    minimize(method, watched, np.full((4, 5), 100.0), bounds, max_iterations=1, initial_step=2.0)
    np.testing.assert_allclose(np.abs(seen[1] - seen[0]).max(), 2.0, rtol=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_RUN_40_no_iterations_evaluate_the_start(method):
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=0)
    assert found.x.numpy().tolist() == [[-1.0, 2.0]]
    assert (found.iterations, found.evaluations) == (0, 1)
    assert found.value == found.initial_value == rosenbrock(found.x)[0]


@pytest.mark.parametrize("method", METHODS)
def test_stops_after_the_iterations_allowed_and_counts_them(method):
    steps = []
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=7, callback=steps.append)
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert found.iterations == 7
    assert found.evaluations == steps[-1].evaluations >= 8
    assert found.stop_reason is StopReason.NUM_ITERATIONS


@pytest.mark.parametrize("method", METHODS)
def test_counts_each_call_of_the_function_once(method):
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return rosenbrock(x)

    initial = np.array([[-1.1, 2.1, 1 / 3]])
    found = optimizers.minimize(counted, initial, method=method, max_iterations=9)
    assert found.evaluations == calls


@pytest.mark.parametrize("method", METHODS)
def test_a_step_tells_value_and_point(method):
    steps = []
    minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=5, callback=steps.append)
    for step in steps:
        assert step.value == rosenbrock(step.x)[0]
        assert (step.x.dtype, step.x.shape) == (tf.float32, (1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_stops_when_the_callback_says_so(method):
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], callback=lambda step: step.iteration == 3)
    assert found.iterations == 3
    assert found.stop_reason is StopReason.STOPPED


@pytest.mark.parametrize("method", METHODS)
def test_RUN_39_a_callback_may_keep_and_change_what_it_gets(method):
    kept, copies = [], []

    def keep(step):
        kept.append(step.x)
        copies.append(step.x.numpy())
        for array in step.state().values():
            with contextlib.suppress(ValueError):  # read-only
                array[...] = 0

    found = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=5, callback=keep)
    undisturbed = minimize(method, rosenbrock, [[-1.0, 2.0]], max_iterations=5)
    assert len({x.tobytes() for x in copies}) == 5
    np.testing.assert_array_equal(kept, copies)
    np.testing.assert_array_equal(found.x, undisturbed.x)


@pytest.mark.parametrize("method", METHODS)
def test_gives_the_best_point_it_evaluated(method):
    values = []

    def watched(x):
        value, gradient = rosenbrock(x)
        values.append(value)
        return value, gradient

    found = minimize(method, watched, [[-1.5, 2.0]], max_iterations=9)
    assert found.value == min(values) == rosenbrock(found.x)[0]
    assert found.initial_value == values[0]


def once(function, at, spoil):
    """Spoils one evaluation of a function."""
    count = 0

    def spoiled(x):
        nonlocal count
        count += 1
        value, gradient = function(x)
        return spoil(value, gradient) if count == at else (value, gradient)

    return spoiled


def _nan_value(value, gradient):
    return np.nan, gradient


def _nan_in_gradient(value, gradient):
    gradient = gradient.copy()
    gradient.flat[0] = np.nan
    return value, gradient


def _opposite_infinities_in_gradient(value, gradient):
    gradient = gradient.copy()
    gradient.flat[:2] = np.inf, -np.inf
    return value, gradient


def _infinite_value(value, gradient):
    return np.inf, gradient


@pytest.mark.parametrize(
    "spoil", [_nan_value, _nan_in_gradient, _opposite_infinities_in_gradient, _infinite_value]
)
@pytest.mark.parametrize("at", [3, 6, 20])
@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_RUN_32_one_bad_value_does_not_keep_it_from_the_minimum(method, spoil, at):
    found = minimize(method, once(rosenbrock, at, spoil), np.full((2, 3), -1.0))
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)


def test_RUN_32_it_is_the_check_and_the_restart_that_save_it(monkeypatch):
    blind = types.SimpleNamespace(**vars(monitor.math))  # a mutant: everything counts as finite
    blind.isfinite = lambda value: True
    monkeypatch.setattr(monitor, "math", blind)
    monkeypatch.setattr(monitor, "_MAX_RESTARTS", 0)
    found = minimize("lbfgs", once(rosenbrock, 6, _nan_in_gradient), np.full((2, 3), -1.0))
    assert not np.allclose(found.x, 1.0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_RUN_31_a_bad_first_value_ends_it_at_once(method):
    found = minimize(method, once(rosenbrock, 1, _nan_value), [[-1.0, 2.0]])
    assert found.stop_reason is StopReason.NOT_FINITE
    assert found.evaluations == 1
    assert found.x.numpy().tolist() == [[-1.0, 2.0]]
    assert found.value == found.initial_value == np.inf


@pytest.mark.parametrize("method", METHODS)
def test_bad_values_without_end_leave_the_best_point(method):
    count = 0

    def failing(x):
        nonlocal count
        count += 1
        value, gradient = hollow(x)
        return (np.nan if count > 8 else value), gradient

    hollow = bowl(np.full((2, 3), 500.0), np.geomspace(1, 90, 6).reshape(2, 3))
    found = minimize(method, failing, np.zeros((2, 3)))
    assert found.stop_reason is StopReason.NOT_FINITE
    assert found.value == hollow(found.x)[0] < hollow(np.zeros((2, 3)))[0]
    assert found.evaluations < 20


@pytest.mark.parametrize("method", METHODS)
def test_says_that_a_gradient_is_zero(method):
    found = minimize(method, bowl(np.zeros((2, 3)), 1.0), np.zeros((2, 3)))
    assert found.stop_reason is StopReason.NO_GRADIENT


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_a_gradient_of_the_wrong_sign_finds_no_step(method):
    def wrong(x):
        value, gradient = rosenbrock(x)
        return value, -gradient

    found = minimize(method, wrong, [[-1.0, 2.0]])
    assert found.stop_reason is StopReason.LINE_SEARCH
    assert found.x.numpy().tolist() == [[-1.0, 2.0]]


def flat(x):
    value, gradient = rosenbrock(x)
    return 1e7 + value, gradient


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b"])
def test_stops_when_the_loss_has_stalled(method):
    found = minimize(method, flat, np.full((4, 5), -1.0))
    assert found.stop_reason is StopReason.CONVERGED
    assert found.iterations <= 25


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b"])
def test_a_tolerance_of_zero_never_counts_as_converged(method):
    found = minimize(method, flat, np.full((4, 5), -1.0), tolerance=0)
    assert found.stop_reason is not StopReason.CONVERGED
    np.testing.assert_allclose(found.x, 1.0, atol=1e-2)


def with_files(state):
    """What a file of NumPy gives back of a state."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


def interrupted_and_whole(method, function, initial, at, max_iterations, **options):
    """Returns a minimization, and one that continues from its state after some iteration."""
    states = {}

    def keep(step):
        if step.iteration == at:
            states.update(step.state())

    options |= {"max_iterations": max_iterations}
    whole = minimize(method, function, initial, callback=keep, **options)
    resumed = minimize(method, function, initial, state=with_files(states), **options)
    return whole, resumed


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lbfgs", {}),
        ("lbfgs", {"history_dtype": "bfloat16"}),
        ("lbfgs", {"history": 3}),
        ("adam", {}),
        (keras.optimizers.SGD(1e-3, momentum=0.9), {}),
        (keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(5.0, 40)), {}),
    ],
    ids=["lbfgs", "bfloat16", "history", "adam", "sgd", "adamw"],
)
@pytest.mark.parametrize("interrupted", [1, 4, 27])
def test_goes_on_from_a_state_as_if_nothing_had_happened(method, options, interrupted, random):
    target = random.uniform(-50, 300, (6, 7))
    function = bowl(target, np.geomspace(1, 900, 42).reshape(6, 7))
    whole, resumed = interrupted_and_whole(
        method, function, np.full((6, 7), 128.0), interrupted, 40, bounds=(0.0, 255.0), **options
    )
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert resumed.value == whole.value
    assert (resumed.iterations, resumed.evaluations) == (whole.iterations, whole.evaluations)


@pytest.mark.parametrize("bounds", [None, (-2.0, 1.5)])
def test_lbfgsb_goes_on_from_the_last_multiple_of_fifty(bounds):
    initial = np.linspace(-1.9, 1.4, 60).reshape(4, 15)
    steps = []
    whole, resumed = interrupted_and_whole(
        "l-bfgs-b", rosenbrock, initial, 73, 110, bounds=bounds, tolerance=0
    )
    minimize("l-bfgs-b", rosenbrock, initial, max_iterations=60, callback=steps.append)
    assert int(steps[55].state()["iterations"]) == 50
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert (resumed.value, resumed.iterations) == (whole.value, 110)


def test_a_continued_minimization_keeps_as_many_steps_as_the_interrupted_one(random):
    function = bowl(random.uniform(-50, 300, (6, 7)), np.geomspace(1, 900, 42).reshape(6, 7))
    initial, states = np.full((6, 7), 128.0), []
    whole = minimize(
        "lbfgs", function, initial, history=3, max_iterations=20,
        callback=lambda step: states.append(step.state()),
    )  # fmt: skip
    for history in (2, 20):
        resumed = minimize(
            "lbfgs", function, initial, state=states[9], history=history, max_iterations=20
        )
        np.testing.assert_array_equal(resumed.x, whole.x)


def test_goes_on_for_more_iterations_than_first_planned():
    states = []
    minimize("lbfgs", rosenbrock, [[-1.0, 2.0, 0.5]], max_iterations=5,
             callback=lambda step: states.append(step.state()))  # fmt: skip
    found = minimize("lbfgs", rosenbrock, [[-1.0, 2.0, 0.5]], state=states[-1], tolerance=0)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)
    assert found.iterations > 5


def test_a_state_is_a_copy_that_later_steps_do_not_change():
    states = []
    minimize(
        "lbfgs", rosenbrock, [[-1.0, 2.0, 0.5]], max_iterations=12,
        callback=lambda step: states.append(step.state()),
    )  # fmt: skip
    assert len({state[f"s{(n - 1) % 20}"].tobytes() for n, state in enumerate(states, 1)}) == 12
    assert [int(state["iterations"]) for state in states] == list(range(1, 13))


def inverse_hessian(rows=20, dtype=tf.float32, history_dtype=None):
    return lbfgs.InverseHessian(
        dtype, rows=rows, history_dtype=history_dtype or dtype, initial_step=2.0
    )


def add(inverse, s, y):
    s, y = (tf.cast(tf.constant(v), inverse.history_dtype) for v in (s, y))
    inverse.add(s, y, float(np.asarray(s, np.float64) @ np.asarray(y, np.float64)))


def test_a_state_is_a_copy_where_the_memory_is_full_too(random):
    inverse = inverse_hessian(rows=20)
    for s in random.normal(size=(20, 6)):
        add(inverse, s, 2.0 * s)
    state = inverse.state()
    before = {name: array.copy() for name, array in state.items()}
    s = random.normal(size=6)
    add(inverse, s, 2.0 * s)
    for name, array in before.items():
        np.testing.assert_array_equal(state[name], array)
    assert not np.array_equal(inverse.state()["s0"], before["s0"])


def test_the_history_grows_with_the_iterations_up_to_its_limit(monkeypatch):
    rows = []
    put = lbfgs._Matrix.put

    def watch(self, row, v):
        put(self, row, v)
        rows.append(len(self._rows))

    monkeypatch.setattr(lbfgs._Matrix, "put", watch)
    minimize("lbfgs", rosenbrock, [[-1.0, 2.0]], max_iterations=6)
    assert rows[:8] == [4] * 8
    assert set(rows[8:]) == {8}
    rows.clear()
    minimize("lbfgs", rosenbrock, [[-1.0, 2.0]], max_iterations=12, history=6)
    assert rows[:8] == [4] * 8
    assert set(rows[8:]) == {6}


def naive_two_loop(pairs, diagonal, g):
    """Nocedal (1980) as written, one vector at a time in float64; H g, with its minus left out."""
    q, alphas = g.astype(np.float64), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    q = diagonal * q * (s @ y) / (y @ (diagonal * y))
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - y @ q / (s @ y))
    return q


def naive_diagonal(gradients):
    """The inverse root of each variable's mean squared gradient, recent ones counting more."""
    ages = np.arange(len(gradients))[::-1, np.newaxis]
    squares = (0.2 * 0.8**ages * np.square(gradients)).sum(axis=0)
    return 1 / np.sqrt(squares + 0.1 * squares.mean())


@pytest.mark.parametrize(("dtype", "error"), [(tf.float32, 1e-4), (tf.float64, 1e-10)])
@pytest.mark.parametrize("count", [1, 3, 20, 27, 55])
def test_the_direction_is_that_of_the_naive_two_loop_recursion(count, dtype, error, random):
    root = random.normal(size=(30, 30))
    hessian = root @ root.T / 30 + np.eye(30)
    inverse, pairs = inverse_hessian(rows=20, dtype=dtype), []
    gradients = random.normal(size=(5, 30)) * random.uniform(0.1, 10, 30)
    for g in gradients:
        inverse.update_diagonal(tf.constant(g, dtype))
    for _ in range(count):
        s = random.normal(size=30)
        pairs.append((s, hessian @ s))
        add(inverse, s, hessian @ s)
    g = random.normal(size=30)
    expected = naive_two_loop(pairs[-20:], naive_diagonal(gradients), g)
    found = inverse.matvec(tf.constant(g, dtype)).numpy()
    np.testing.assert_allclose(found, expected, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("history_dtype", ["float32", "bfloat16"])
def test_vectors_in_blocks_give_what_whole_ones_give(history_dtype, monkeypatch):
    def steps():
        found = []
        minimize(
            "lbfgs", rosenbrock, [[-1.0, 2.0, 0.5, 1.5, -0.5]], max_iterations=12,
            history_dtype=history_dtype, bounds=(-1.0, 2.0), history=5,
            callback=lambda step: found.append(step.x.numpy()),
        )  # fmt: skip
        return np.concatenate(found)

    whole = steps()
    monkeypatch.setattr(lbfgs, "_BLOCK_ELEMENTS", 2)
    blocks = steps()
    np.testing.assert_allclose(blocks[:4], whole[:4], atol=1e-5)
    np.testing.assert_allclose(blocks[-1], whole[-1], atol=1e-2)


def test_a_point_that_was_not_accepted_is_let_go():
    evaluated, kept = [], []

    def steep(x):
        kept.append([ref() is not None for ref in evaluated])
        evaluated.append(weakref.ref(x))
        return tf.reduce_sum(x**4), 4.0 * x**3

    minimize("lbfgs", steep, np.full((1, 3), 9.0, np.float32), max_iterations=1, initial_step=1e3)
    # The second and the third point are too far; only the initial one is kept meanwhile.
    assert kept[2:4] == [[True, False], [True, False, False]]


def test_the_initial_point_is_let_go_after_the_first_step():
    evaluated, kept = [], []

    def bowl(x):
        kept.append([ref() is not None for ref in evaluated])
        evaluated.append(weakref.ref(x))
        return tf.reduce_sum(x**2), 2.0 * x

    minimize("lbfgs", bowl, np.full((1, 3), 9.0, np.float32), max_iterations=2, initial_step=0.1)
    assert kept == [[], [True], [False, True]]


@pytest.mark.parametrize("count", [2, 9])
def test_a_history_in_bfloat16_is_that_of_the_rounded_pairs(count, random):
    inverse, pairs = inverse_hessian(rows=7, history_dtype=tf.bfloat16), []
    inverse.update_diagonal(tf.ones(30))
    for _ in range(count):
        s = random.normal(size=30)
        y = s * random.uniform(1, 2, 30)
        pairs.append([np.asarray(tf.cast(tf.cast(v, tf.bfloat16), tf.float64)) for v in (s, y)])
        add(inverse, s, y)
    g = random.normal(size=30)
    expected = naive_two_loop(pairs[-7:], np.ones(30), g)
    found = inverse.matvec(tf.constant(g, tf.float32)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_pairs_that_were_removed_do_not_count(random):
    inverse, other = inverse_hessian(rows=3), inverse_hessian(rows=3)
    for s in random.normal(size=(5, 30)):
        add(inverse, s, 3.0 * s)
    inverse.clear()
    g, s = random.normal(size=(2, 30))
    for hessian in (inverse, other):
        hessian.update_diagonal(tf.constant(g, tf.float32))
        add(hessian, s, 2.0 * s)
    g = tf.constant(g, tf.float32)
    np.testing.assert_allclose(inverse.matvec(g), other.matvec(g), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e25])
def test_the_first_step_is_initial_step_at_most_in_any_unit(unit, random):
    inverse = inverse_hessian()
    g = random.normal(size=30)
    inverse.update_diagonal(tf.constant(unit * g, tf.float32))
    step = inverse.matvec(tf.constant(unit * g, tf.float32)).numpy()
    scaled = naive_diagonal(g[np.newaxis]) * g
    np.testing.assert_allclose(step, 2 * scaled / np.abs(scaled).max(), rtol=1e-4)


def test_a_pair_of_negative_curvature_is_not_kept():
    def function(x):  # concave left of 0, convex right of it: as 3 x - x^3 up to there
        x = np.asarray(x, np.float64)
        return float(np.sum(np.where(x < 0, x**3 / 30 - x, x**2 / 2 - x))), np.where(
            x < 0, x**2 / 10 - 1, x - 1
        )

    pairs = {}
    found = minimize(
        "lbfgs", function, np.full((1, 3), -0.5), tolerance=0, initial_step=0.1,
        callback=lambda step: pairs.update({step.iteration: len(step.state()["pairs"])}),
    )  # fmt: skip
    assert pairs[1] == 0
    assert max(pairs.values()) > 0
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)


def test_a_history_in_bfloat16_finds_the_minimum():
    found = minimize("lbfgs", rosenbrock, np.full((2, 3), -1.0), history_dtype="bfloat16")
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)


def test_a_history_in_bfloat16_costs_little_on_an_ill_conditioned_problem(random):
    curvature = np.geomspace(1e-2, 1e4, 3000).reshape(20, 150)
    function = on_device(random.uniform(0, 255, (20, 150)), curvature)
    values = {
        dtype: minimize(
            "lbfgs", function, np.full((20, 150), 128.0), (0.0, 255.0), 100, history_dtype=dtype
        ).value
        for dtype in ("float32", "bfloat16")
    }
    assert values["bfloat16"] < 1.1 * values["float32"]


class Fetches:
    """Counts what is fetched from TensorFlow's device, and how many elements at once.

    NumPy reads tensors through the buffer protocol, which has no hook: its own functions are
    counted in its place.
    """

    def __init__(self, monkeypatch):
        self.sizes = []
        fetch = ops._EagerTensorBase._numpy

        def counted(tensor):
            self.sizes.append(int(np.prod(tensor.shape)))
            return fetch(tensor)

        monkeypatch.setattr(ops._EagerTensorBase, "_numpy", counted)
        for name in ("asarray", "array"):
            convert = getattr(np, name)

            def converted(value, *arguments, _convert=convert, **options):
                return _convert(
                    value.numpy() if tf.is_tensor(value) else value, *arguments, **options
                )

            monkeypatch.setattr(np, name, converted)


def test_the_counter_sees_every_kind_of_fetch(monkeypatch):
    fetches, tensor, scalar = Fetches(monkeypatch), tf.zeros((2, 3)), tf.zeros(())
    for read in (np.asarray, np.array, lambda tensor: tensor.numpy()):
        read(tensor)
    for read in (float, bool, int):
        read(scalar)
    assert fetches.sizes == [6, 6, 6, 1, 1, 1]


@pytest.mark.parametrize("bounds", [None, (0.0, 255.0)])
@pytest.mark.parametrize(
    "method", [*ON_DEVICE, keras.optimizers.SGD(1e-4, momentum=0.9)], ids=[*ON_DEVICE, "sgd"]
)
def test_fetches_two_scalars_per_evaluation_at_most(method, bounds, random, monkeypatch):
    function = on_device(
        random.uniform(-50, 300, (6, 17)), np.geomspace(1, 900, 102).reshape(6, 17)
    )
    fetches = Fetches(monkeypatch)
    initial = tf.fill((6, 17), 128.0)
    found = optimizers.minimize(
        function, initial, method=method, bounds=bounds, max_iterations=40, tolerance=0
    )
    assert found.iterations == 40
    assert 0 < len(fetches.sizes) <= 2 * found.evaluations
    assert max(fetches.sizes) <= 64


def test_adam_takes_the_first_step_of_the_paper():
    # Kingma and Ba (2015), section 2.1: the first step has the length of the step size.
    found = []
    minimize("adam", bowl(np.array([[300.0, -300.0]]), np.array([1.0, 7.0])), [[100.0, 100.0]],
             max_iterations=1, callback=lambda step: found.append(step.x))  # fmt: skip
    np.testing.assert_allclose(found[0], [[110.0, 90.0]], atol=1e-3)


def test_adam_takes_the_steps_of_the_paper(random):
    # Algorithm 1, in float64; epsilon is too small to count here.
    target, curvature = random.uniform(-50, 50, (2, 3)), random.uniform(1, 9, (2, 3))
    x, first, second = np.zeros((3, 2, 3))
    for t in range(1, 8):
        g = curvature * (x - target)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        x = x - 0.5 * (first / (1 - 0.9**t)) / np.sqrt(second / (1 - 0.999**t))
    steps = []
    optimizers.minimize(bowl(target, curvature), np.zeros((2, 3)), method="adam", initial_step=0.5,
                        max_iterations=7, callback=steps.append)  # fmt: skip
    np.testing.assert_allclose(steps[-1].x, x, rtol=1e-4)


def test_adam_comes_near_the_minimum():
    found = minimize("adam", bowl(np.full((3, 4), 77.0), 1.0), np.zeros((3, 4)))
    np.testing.assert_allclose(found.x, 77.0, atol=0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_keras_optimizer_takes_the_steps_of_its_rule(dtype, random):
    # SGD with momentum (Keras' documentation): v = m v - rate g; x = x + v; then projected.
    target, curvature = random.uniform(-9, 9, (2, 3)), random.uniform(1, 9, (2, 3))
    x, velocity = np.zeros((2, 2, 3))
    for _ in range(25):
        velocity = 0.9 * velocity - 1e-2 * curvature * (x - target)
        x = np.clip(x + velocity, -5.0, 6.0)
    steps = []
    optimizers.minimize(
        bowl(target, curvature), np.zeros((2, 3), dtype),
        method=keras.optimizers.SGD(1e-2, momentum=0.9), bounds=(-5.0, 6.0), max_iterations=25,
        tolerance=0, callback=steps.append,
    )  # fmt: skip
    assert steps[-1].x.dtype.as_numpy_dtype is dtype
    np.testing.assert_allclose(steps[-1].x, x, rtol=1e-6 if dtype is np.float64 else 1e-4)


def test_a_keras_optimizer_is_not_changed_and_serves_again():
    optimizer = keras.optimizers.RMSprop(0.5)
    found = [minimize(optimizer, rosenbrock, x, max_iterations=9) for x in ([[-1.0, 2.0]],) * 2]
    np.testing.assert_array_equal(*(result.x for result in found))
    minimize(optimizer, rosenbrock, np.zeros((3, 2)), max_iterations=2)
    assert not optimizer.built


def test_holds_blas_to_one_thread_and_gives_it_back():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, during = threads(), []

    def watched(x):
        during.append(threads())
        return rosenbrock(x)

    minimize("l-bfgs-b", watched, [[-1.0, 2.0]], max_iterations=2)
    assert {number for numbers in during for number in numbers} == {1}
    assert threads() == before


@pytest.mark.parametrize("method", METHODS)
def test_RUN_33_an_explosion_is_undone_from_the_best_point(method):
    quiet = bowl(np.full((3, 4), 100.0), 1.0)
    explodes_once = once(quiet, 6, lambda value, gradient: (1e30, gradient))
    found = minimize(method, explodes_once, np.zeros((3, 4)), max_iterations=60)
    assert found.value < 1e-2 * quiet(np.zeros((3, 4)))[0]


def test_RUN_33_where_it_explodes_for_ever_the_best_is_kept():
    quiet = bowl(np.full((3, 4), 100.0), 1.0)
    evaluations = 0

    def explodes(x):
        nonlocal evaluations
        evaluations += 1
        value, gradient = quiet(x)
        return (1e30 if evaluations > 6 else value), gradient

    found = minimize("adam", explodes, np.zeros((3, 4)), max_iterations=60)
    assert (
        found.stop_reason == "numerical failure: the loss grew to a million times its first value"
    )
    assert found.stop_reason.is_failure
    assert found.value < quiet(np.zeros((3, 4)))[0]


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b"])
def test_RUN_34_a_gradient_of_the_wrong_sign_is_told_and_the_start_kept(method):
    right = bowl(np.full((3, 4), 100.0), 1.0)

    def wrong(x):
        value, gradient = right(x)
        return value, -gradient

    found = minimize(method, wrong, np.full((3, 4), 50.0), max_iterations=60)
    assert found.stop_reason == "converged: no step along the gradient lowers the loss any more"
    assert found.value == found.initial_value == right(np.full((3, 4), 50.0))[0]
    np.testing.assert_array_equal(found.x, 50.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("evaluation", [1, 4])
def test_stops_at_the_next_evaluation_with_the_best_point(method, evaluation):
    evaluations = 0

    def count(x):
        nonlocal evaluations
        evaluations += 1
        return rosenbrock(x)

    found = minimize(method, count, [[-1.0, 2.0]], should_stop=lambda: evaluations == evaluation)
    assert found.stop_reason == "stopped on request"
    assert evaluations == found.evaluations == evaluation
    assert found.value <= rosenbrock(np.array([[-1.0, 2.0]]))[0]


@pytest.mark.parametrize("method", ON_DEVICE)
def test_the_state_of_the_last_step_serves_after_a_stop(method, random):
    function = bowl(random.uniform(0, 255, (3, 4)), np.geomspace(1, 90, 12).reshape(3, 4))
    steps, evaluations = [], []

    def counted(x):
        evaluations.append(x)
        return function(x)

    initial = np.full((3, 4), 128.0)
    minimize(method, counted, initial, callback=steps.append, max_iterations=30,
             should_stop=lambda: len(evaluations) == 12)  # fmt: skip
    state = with_files(steps[-1].state())  # an evaluation later than the step
    resumed = minimize(method, function, initial, max_iterations=30, state=state)
    whole = minimize(method, function, initial, max_iterations=30)
    np.testing.assert_array_equal(resumed.x, whole.x)


@pytest.mark.parametrize("method", METHODS)
def test_leaves_nothing_behind_that_waits_for_the_garbage_collector(method):
    kept = []

    def watched(x):
        kept.append(weakref.ref(x))
        return rosenbrock(x)

    gc.collect()
    gc.disable()
    try:
        found = minimize(method, watched, [[-1.0, 2.0]], max_iterations=8)
        alive = [reference() for reference in kept if reference() is not None]
    finally:
        gc.enable()
    assert all(x is found.x for x in alive)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "lbfg"}, "wrong method: received 'lbfg'; allowed are lbfgs, l-bfgs-b, bfgs, "
                             "adam and Keras optimizers; did you mean 'lbfgs'?"),
        ({"method": keras.optimizers.SGD}, "wrong method: received <class"),
        ({"bounds": (1.0, 1.0)}, "wrong bounds: received (1.0, 1.0); give None or a pair of "
                                 "numbers, the lower one first"),
        ({"bounds": (2.0, -1.0)}, "wrong bounds"),
        ({"bounds": (0.0, np.nan)}, "wrong bounds"),
        ({"bounds": 3.0}, "wrong bounds: received 3.0"),
        ({"bounds": [(0, 1), (0, 1)]}, "wrong bounds"),
        ({"max_iterations": -1}, "wrong max_iterations: received -1; give an integer of at least "
                                 "0"),
        ({"max_iterations": 2.5}, "wrong max_iterations: received 2.5"),
        ({"max_iterations": True}, "wrong max_iterations: received True"),
        ({"initial_step": 0}, "wrong initial_step: received 0; give a number above 0"),
        ({"initial_step": np.inf}, "wrong initial_step"),
        ({"initial_step": "2"}, "wrong initial_step: received '2'"),
        ({"history": 0}, "wrong history: received 0; give an integer of at least 1"),
        ({"history_dtype": "bfloat6"}, "wrong history_dtype: received 'bfloat6'; allowed are None, "
                                       "bfloat16, float32, float64; did you mean 'bfloat16'?"),
        ({"history_dtype": "float16"}, "wrong history_dtype: received 'float16'"),
        ({"tolerance": -1e-3}, "wrong tolerance: received -0.001; give a number of at least 0"),
        ({"initial": [[1.0, np.nan]]}, "wrong initial point: it has NaN or infinite elements; give "
                                       "finite ones"),
        ({"initial": [[1.0, np.inf]]}, "wrong initial point: it has NaN or infinite elements"),
        ({"initial": np.zeros((2, 0))}, "wrong initial point: it is of shape (2, 0)"),
        ({"initial": np.zeros((2, 3), np.float16)}, "wrong initial point: it is of type float16; "
                                                    "cast it to float32 or float64"),
        ({"initial": "image"}, "wrong initial point: it is of type string"),
        ({"initial": [[1.0], [1.0, 2.0]]}, "wrong initial point: it cannot be made a tensor"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_with_the_remedy(options, text):
    options = {"initial": [[-1.0, 2.0]], **options}
    with pytest.raises(InputError) as error:
        optimizers.minimize(rosenbrock, **options)
    assert text in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: (tf.reduce_sum(x), tf.ones(2)), "a gradient of shape (2,)"),
        (lambda x: (x, tf.ones_like(x)), "a value of shape (1, 3)"),
    ],
)
def test_a_function_of_wrong_shapes_is_refused(method, function, text):
    with pytest.raises(InputError) as error:
        minimize(method, function, [[1.0, 2.0, 3.0]])
    assert str(error.value).startswith(
        "wrong value_and_gradients: for x of shape (1, 3) it returned"
    )
    assert text in str(error.value)


def test_a_state_of_another_problem_is_refused():
    states = []
    minimize("lbfgs", rosenbrock, [[-1.0, 2.0]], max_iterations=3,
             callback=lambda step: states.append(step.state()))  # fmt: skip
    with pytest.raises(InputError, match=r"wrong state: its x is float32 of shape \(1, 2\)"):
        minimize("lbfgs", rosenbrock, [[-1.0, 2.0, 0.5]], state=states[-1])
    with pytest.raises(InputError, match=r"wrong state: its x is float32 .* is float64"):
        optimizers.minimize(rosenbrock, np.array([[-1.0, 2.0]]), state=states[-1])
    with pytest.raises(InputError, match="its history is of type float32, this one of bfloat16"):
        minimize("lbfgs", rosenbrock, [[-1.0, 2.0]], state=states[-1], history_dtype="bfloat16")


def test_the_package_is_imported_without_tensorflow_keras_and_scipy():
    code = (
        "import sys; import nst_tf.optimizers; from nst_tf.optimizers import result; "
        "sys.exit(','.join({'tensorflow', 'keras', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
