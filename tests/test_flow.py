"""Optical flow, images moved along it, and the check that finds where it can be trusted."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from nst_tf.errors import MachineError
from nst_tf.image import flow
from nst_tf.image.resize import resize
from nst_tf.io import images
from tests.command import PALACE

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="needs the extra video"
)


@pytest.fixture(scope="module")
def photo():
    """A photograph of 120x180 pixels."""
    return resize(images.read(PALACE), (120, 180))


def constant(shape, x, y):
    return np.broadcast_to(np.float32([x, y]), (*shape, 2)).copy()


@needs_opencv
@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -2), (5, 4)])
def test_a_shift_by_whole_pixels_moves_them_exactly(photo, x, y):
    moved = flow.warp_image(photo, constant((120, 180), x, y))
    expected = np.roll(photo, (-y, -x), axis=(0, 1))
    np.testing.assert_allclose(moved[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-3)


@needs_opencv
def test_a_flow_leads_to_the_match_and_not_away_from_it():
    """A single bright pixel, at (10, 7) before, is found from where it is now, at (13, 5)."""
    before = np.zeros((20, 30, 3), np.float32)
    before[7, 10] = 200
    backward = constant((20, 30), -3, 2)
    moved = flow.warp(before, backward)
    assert np.argwhere(moved[:, :, 0] > 100).tolist() == [[5, 13]]


@needs_opencv
def test_half_a_pixel_lies_between_its_neighbors_and_values_stay_in_range():
    x = np.arange(30, dtype=np.float32) * 8
    ramp = np.repeat(np.tile(x, (20, 1))[:, :, None], 3, axis=2)
    moved = flow.warp_image(ramp, constant((20, 30), 0.5, 0))
    np.testing.assert_allclose(moved[:, 2:-3, 0], np.tile(x + 4, (20, 1))[:, 2:-3], atol=0.2)
    checks = np.where(np.indices((20, 30)).sum(0) % 2, 255, 0)[:, :, None].repeat(3, 2)
    moved = flow.warp_image(checks.astype(np.float32), constant((20, 30), 0.25, 0.25))
    assert moved.min() >= 0 and moved.max() <= 255


@needs_opencv
def test_the_flow_of_a_known_shift_is_found(photo):
    now, before = photo[10:90, 12:132], photo[13:93, 8:128]
    found = flow.optical_flow(now, before)
    # What is at (x, y) now is at (x + 4, y - 3) before.
    error = np.linalg.norm(found - [4, -3], axis=2)
    assert np.median(error) < 0.1 and np.percentile(error[8:-8, 8:-8], 95) < 0.5


@needs_opencv
def test_what_leaves_the_image_has_no_match():
    backward, forward = constant((20, 30), 4, -2), constant((20, 30), -4, 2)
    trust = flow.trusted(backward, forward)
    assert trust.dtype == np.float32 and set(np.unique(trust)) == {0, 1}
    expected = np.zeros((20, 30))
    expected[2:, :-4] = 1
    np.testing.assert_array_equal(trust, expected)


@needs_opencv
def test_a_disocclusion_is_found_where_flows_there_and_back_differ():
    """A square moves 6 to the right over a background at rest: it uncovers six columns."""
    forward, backward = np.zeros((40, 60, 2), np.float32), np.zeros((40, 60, 2), np.float32)
    forward[10:30, 15:35, 0] = 6
    backward[10:30, 21:41, 0] = -6
    trust = flow.trusted(backward, forward)
    assert not trust[12:28, 15:21].any()  # uncovered: the square was there
    assert trust[12:28, 23:39].all()  # the square itself
    assert trust[:8].all() and trust[:, :12].all() and trust[:, 45:].all()
    assert not trust[10:30, 20:22].any()  # the boundary of the motion


@needs_opencv
@pytest.mark.parametrize(("difference", "known"), [(0.6, True), (0.8, False)])
def test_the_flows_may_differ_by_half_a_squared_pixel(difference, known):
    backward, forward = constant((20, 30), 0, 0), constant((20, 30), difference, 0)
    # 0.6^2 = 0.36 and 0.8^2 = 0.64 against 0.01 |w'|^2 + 0.5
    assert flow.trusted(backward, forward).all() == known


@needs_opencv
@pytest.mark.parametrize(("slope", "known"), [(0.04, True), (0.06, False)])
def test_a_slope_of_the_flow_is_a_boundary_of_motion(slope, known):
    backward = constant((21, 31), 0, 0)
    backward[:, :, 0] = slope * (np.arange(31) - 15)
    trust = flow.trusted(backward, -backward)
    # At the center the flow is 0: slope^2 against 0.002, 0.0447 squared.
    assert bool(trust[10, 15]) == known


@needs_opencv
def test_an_occlusion_in_images_is_found(photo):
    """A patch that moves over a photograph, with the flow estimated."""
    patch = np.asarray(Image.fromarray(photo.astype(np.uint8)).rotate(90).resize((50, 50)))
    before, now = photo.copy(), photo.copy()
    before[30:80, 60:110] = patch
    now[30:80, 70:120] = patch
    backward, forward = flow.optical_flow(now, before), flow.optical_flow(before, now)
    trust = flow.trusted(backward, forward)
    assert trust[35:75, 61:69].mean() < 0.25  # uncovered
    assert trust[36:74, 78:112].mean() > 0.9  # the patch
    assert trust[:, :50].mean() > 0.95 and trust[:, 130:].mean() > 0.95


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MachineError) as caught:
        flow.opencv()
    assert str(caught.value) == (
        "cannot process a video: the package opencv-python-headless is not installed; "
        'install it: pip install "nst_tf[video]"'
    )
