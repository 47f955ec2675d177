"""The minimisers on functions whose minima are known."""

import io
import types

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from threadpoolctl import threadpool_info

from nst_tf import optimizers
from nst_tf.optimizers import StopReason, lbfgs, problem

QUASI_NEWTON = ["lbfgs", "l-bfgs-b", "bfgs"]
METHODS = [*QUASI_NEWTON, "adam"]
BOUNDED = ["lbfgs", "l-bfgs-b", "adam"]


def go_on(step):
    return False


def minimize(method, function, start, bounds=None, num_iterations=300, callback=go_on, **more):
    start = np.asarray(start, np.float32)
    return optimizers.minimize(
        method,
        function,
        start,
        bounds=bounds,
        num_iterations=num_iterations,
        callback=callback,
        **more,
    )


def rosenbrock(x):
    """Known minimum: 0 at (1, ..., 1)."""
    flat = x.ravel().astype(np.float64)
    gradient = scipy.optimize.rosen_der(flat).reshape(x.shape)
    return float(scipy.optimize.rosen(flat)), gradient.astype(np.float32)


def bowl(target, curvature):
    """Known minimum: 0 at `target`; within a box, at the target clipped to it."""

    def function(x):
        difference = x.astype(np.float64) - target
        gradient = (curvature * difference).astype(np.float32)
        return float(np.sum(curvature * difference**2) / 2), gradient

    return function


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_finds_the_minimum_of_rosenbrocks_function(method):
    found = minimize(method, rosenbrock, np.full((2, 3), -1.0))
    assert found.x.shape == (2, 3)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)
    assert found.value < 1e-6


def test_finds_the_minimum_in_a_box(random):
    target = random.uniform(-200, 455, (6, 7))
    found = minimize("l-bfgs-b", bowl(target, np.geomspace(1, 50, 42).reshape(6, 7)),
                     np.full((6, 7), 128.0), bounds=(0.0, 255.0))  # fmt: skip
    np.testing.assert_allclose(found.x, np.clip(target, 0, 255), atol=1e-2)


@pytest.mark.parametrize("method", BOUNDED)
def test_never_leaves_the_box(method, random):
    target = random.uniform(-900, 900, (5, 8))
    seen = []

    def watched(x):
        seen.append(x.copy())
        return bowl(target, 1.0)(x)

    minimize(method, watched, np.full((5, 8), 3.0), bounds=(0.0, 255.0), num_iterations=30)
    assert len(seen) > 2
    assert min(x.min() for x in seen) >= 0.0
    assert max(x.max() for x in seen) <= 255.0


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_leaves_the_box_where_there_is_none(method):
    found = minimize(method, bowl(np.full((3, 4), 300.0), 1.0), np.zeros((3, 4)))
    np.testing.assert_allclose(found.x, 300.0, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30])
def test_the_path_does_not_depend_on_the_unit_of_the_loss(method, scale):
    def scaled(x):
        value, gradient = rosenbrock(x)
        return value * scale, gradient * np.float32(scale)

    plain = minimize(method, rosenbrock, [[-1.0, 2.0]], num_iterations=12)
    other = minimize(method, scaled, [[-1.0, 2.0]], num_iterations=12)
    np.testing.assert_allclose(other.x, plain.x, rtol=1e-3)


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_the_first_step_moves_no_variable_by_more_than_a_few_levels(method, random):
    seen = []
    target = random.uniform(0, 255, (4, 5))

    def watched(x):
        seen.append(x.copy())
        return bowl(target, 1e4)(x)

    minimize(method, watched, np.full((4, 5), 100.0), bounds=(0.0, 255.0), num_iterations=1)
    assert 1.0 < np.abs(seen[1] - seen[0]).max() < 4.0


@pytest.mark.parametrize("method", METHODS)
def test_RUN_40_no_iterations_evaluate_the_start(method):
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], num_iterations=0)
    assert found.x.tolist() == [[-1.0, 2.0]]
    assert (found.iterations, found.evaluations) == (0, 1)
    assert found.value == rosenbrock(found.x)[0]


@pytest.mark.parametrize("method", METHODS)
def test_stops_after_the_iterations_allowed_and_counts_them(method):
    steps = []
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], num_iterations=7, callback=steps.append)
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert found.iterations == 7
    assert found.evaluations == steps[-1].evaluations >= 8
    assert found.stop_reason is StopReason.NUM_ITERATIONS


@pytest.mark.parametrize("method", METHODS)
def test_stops_when_the_callback_says_so(method):
    found = minimize(method, rosenbrock, [[-1.0, 2.0]], callback=lambda step: step.iteration == 3)
    assert found.iterations == 3
    assert found.stop_reason is StopReason.STOPPED


@pytest.mark.parametrize("method", METHODS)
def test_RUN_39_a_callback_may_keep_and_change_what_it_gets(method):
    kept = []

    def keep(step):
        kept.append(step.x.copy())
        step.x[:] = np.nan

    found = minimize(method, rosenbrock, [[-1.0, 2.0]], num_iterations=5, callback=keep)
    undisturbed = minimize(method, rosenbrock, [[-1.0, 2.0]], num_iterations=5)
    assert len({x.tobytes() for x in kept}) == 5
    np.testing.assert_array_equal(found.x, undisturbed.x)


@pytest.mark.parametrize("method", METHODS)
def test_gives_the_best_point_it_evaluated(method):
    values = []

    def watched(x):
        value, gradient = rosenbrock(x)
        values.append(value)
        return value, gradient

    found = minimize(method, watched, [[-1.5, 2.0]], num_iterations=9)
    assert found.value == min(values) == rosenbrock(found.x)[0]


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


def _infinite_value(value, gradient):
    return np.inf, gradient


@pytest.mark.parametrize("spoil", [_nan_value, _nan_in_gradient, _infinite_value])
@pytest.mark.parametrize("at", [3, 6, 20])
@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_RUN_32_one_bad_value_does_not_keep_it_from_the_minimum(method, spoil, at):
    found = minimize(method, once(rosenbrock, at, spoil), np.full((2, 3), -1.0))
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)


def test_RUN_32_it_is_the_check_and_the_restart_that_save_it(monkeypatch):
    blind = types.SimpleNamespace(**vars(np))  # a mutant: everything counts as finite
    blind.isfinite = lambda values: np.ones_like(values, bool)
    monkeypatch.setattr(problem, "np", blind)
    monkeypatch.setattr(problem, "_MAX_RESTARTS", 0)
    found = minimize("lbfgs", once(rosenbrock, 6, _nan_in_gradient), np.full((2, 3), -1.0))
    assert not np.allclose(found.x, 1.0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_RUN_31_a_bad_first_value_ends_it_at_once(method):
    found = minimize(method, once(rosenbrock, 1, _nan_value), [[-1.0, 2.0]])
    assert found.stop_reason is StopReason.NOT_FINITE
    assert found.evaluations == 1
    assert found.x.tolist() == [[-1.0, 2.0]]


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
    assert found.x.tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b"])
def test_stops_when_the_loss_has_stalled(method):
    def flat(x):
        value, gradient = rosenbrock(x)
        return 1e7 + value, gradient

    found = minimize(method, flat, np.full((4, 5), -1.0))
    assert found.stop_reason is StopReason.CONVERGED
    assert found.iterations <= 25


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
@pytest.mark.parametrize("interrupted", [1, 4, 27])
def test_goes_on_from_a_state_as_if_nothing_had_happened(method, interrupted, random):
    target = random.uniform(-50, 300, (6, 7))
    function = bowl(target, np.geomspace(1, 900, 42).reshape(6, 7))
    start, bounds = np.full((6, 7), 128.0), (0.0, 255.0)
    states = {}

    def keep(step):
        if step.iteration == interrupted:
            states.update(step.state())

    whole = minimize(method, function, start, bounds, num_iterations=40, callback=keep)
    file = io.BytesIO()
    np.savez(file, **states)
    file.seek(0)
    restored = dict(np.load(file, allow_pickle=False))
    resumed = minimize(method, function, start, bounds, num_iterations=40, state=restored)
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert resumed.value == whole.value
    assert (resumed.iterations, resumed.evaluations) == (whole.iterations, whole.evaluations)


def test_a_state_is_a_copy_that_later_steps_do_not_change():
    states = []
    minimize(
        "lbfgs", rosenbrock, [[-1.0, 2.0, 0.5]], num_iterations=12,
        callback=lambda step: states.append(step.state()),
    )  # fmt: skip
    assert len({state["s"].tobytes() for state in states}) == 12
    assert [int(state["iterations"]) for state in states] == list(range(1, 13))


def test_a_state_is_a_copy_where_the_memory_is_full_too(random):
    inverse = lbfgs._InverseHessian(6)

    def add_a_pair():
        s = tf.constant(random.normal(size=6), tf.float32)
        inverse.add(s, 2.0 * s)

    for _ in range(lbfgs.MEMORY):
        add_a_pair()
    state = inverse.state()
    before = {name: array.copy() for name, array in state.items()}
    add_a_pair()
    for name, array in before.items():
        np.testing.assert_array_equal(state[name], array)
    assert not np.array_equal(inverse.state()["s"], before["s"])


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


@pytest.mark.parametrize("count", [1, 3, lbfgs.MEMORY, lbfgs.MEMORY + 7])
def test_the_direction_is_that_of_the_naive_two_loop_recursion(count, random):
    root = random.normal(size=(30, 30))
    hessian = root @ root.T / 30 + np.eye(30)
    inverse, pairs = lbfgs._InverseHessian(30), []
    gradients = random.normal(size=(5, 30)) * random.uniform(0.1, 10, 30)
    for g in gradients:
        inverse.observe(tf.constant(g, tf.float32))
    for _ in range(count):
        s = random.normal(size=30)
        pairs.append((s, hessian @ s))
        inverse.add(tf.constant(s, tf.float32), tf.constant(hessian @ s, tf.float32))
    g = random.normal(size=30)
    expected = naive_two_loop(pairs[-lbfgs.MEMORY :], naive_diagonal(gradients), g)
    found = inverse.times(tf.constant(g, tf.float32)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e25])
def test_the_first_step_is_two_levels_at_most_in_any_unit(unit, random):
    inverse = lbfgs._InverseHessian(30)
    g = random.normal(size=30)
    inverse.observe(tf.constant(unit * g, tf.float32))
    step = inverse.times(tf.constant(unit * g, tf.float32)).numpy()
    scaled = naive_diagonal(g[np.newaxis]) * g
    np.testing.assert_allclose(step, 2 * scaled / np.abs(scaled).max(), rtol=1e-4)


def test_a_pair_of_negative_curvature_is_not_kept(random):
    inverse = lbfgs._InverseHessian(5)
    s = tf.constant(random.normal(size=5), tf.float32)
    inverse.add(s, -s)
    assert inverse.pairs == []
    inverse.add(s, s)
    assert inverse.pairs == [0]


def test_adam_takes_the_first_step_of_the_paper():
    # Kingma and Ba (2015), section 2.1: the first step has the length of the step size, 10 levels.
    found = []
    minimize("adam", bowl(np.array([[300.0, -300.0]]), np.array([1.0, 7.0])), [[100.0, 100.0]],
             num_iterations=1, callback=lambda step: found.append(step.x))  # fmt: skip
    np.testing.assert_allclose(found[0], [[110.0, 90.0]], atol=1e-3)


def test_adam_comes_near_the_minimum():
    found = minimize("adam", bowl(np.full((3, 4), 77.0), 1.0), np.zeros((3, 4)))
    np.testing.assert_allclose(found.x, 77.0, atol=0.5)


def test_holds_blas_to_one_thread_and_gives_it_back():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, during = threads(), []

    def watched(x):
        during.append(threads())
        return rosenbrock(x)

    minimize("l-bfgs-b", watched, [[-1.0, 2.0]], num_iterations=2)
    assert {number for numbers in during for number in numbers} == {1}
    assert threads() == before


@pytest.mark.parametrize("method", METHODS)
def test_RUN_33_an_explosion_is_undone_from_the_best_point(method):
    quiet = bowl(np.full((3, 4), 100.0), 1.0)
    explodes_once = once(quiet, 6, lambda value, gradient: (1e30, gradient))
    found = minimize(method, explodes_once, np.zeros((3, 4)), num_iterations=60)
    assert found.value < 1e-2 * quiet(np.zeros((3, 4)))[0]


def test_RUN_33_where_it_explodes_for_ever_the_best_is_kept():
    quiet = bowl(np.full((3, 4), 100.0), 1.0)
    evaluations = 0

    def explodes(x):
        nonlocal evaluations
        evaluations += 1
        value, gradient = quiet(x)
        return (1e30 if evaluations > 6 else value), gradient

    found = minimize("adam", explodes, np.zeros((3, 4)), num_iterations=60)
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

    found = minimize(method, wrong, np.full((3, 4), 50.0), num_iterations=60)
    assert found.stop_reason == "converged: no step along the gradient lowers the loss any more"
    assert found.value == found.first_value == right(np.full((3, 4), 50.0))[0]
    np.testing.assert_array_equal(found.x, 50.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("evaluation", [1, 4])
def test_stops_at_the_next_evaluation_with_the_best_point(method, evaluation):
    evaluations = 0

    def count(x):
        nonlocal evaluations
        evaluations += 1
        return rosenbrock(x)

    found = minimize(method, count, [[-1.0, 2.0]], stop=lambda: evaluations == evaluation)
    assert found.stop_reason == "stopped on request"
    assert evaluations == found.evaluations == evaluation
    assert found.value <= rosenbrock(np.array([[-1.0, 2.0]], np.float32))[0]
