"""The plan of sizes."""

import pytest

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine import pyramid
from nst_tf.errors import InputError, MachineError


def test_images_keep_their_aspect_and_the_style_its_relative_size():
    config = Config(image_size=512, style_scale=0.5, pyramid="none")
    (level,) = pyramid.plan((427, 640), [(448, 326)], config)
    assert level.shape == (342, 512)  # 427 * 512 / 640 = 341.6
    assert level.style_shapes == ((256, 186),)  # 326 * 256 / 448 = 186.3


@pytest.mark.parametrize(
    ("layer", "smallest"),
    [("block1_conv2", 1), ("block2_conv1", 2), ("block3_conv4", 4), ("block4_conv1", 8),
     ("block5_conv1", 16)],
)  # fmt: skip
def test_IMG_15_the_smallest_side_follows_the_deepest_layer(layer, smallest):
    def config(size, **changes):
        layers = {"content_layers": ["block1_conv1"], "style_layers": [layer]}
        return Config(image_size=3 * size, **layers | {"init": "content"} | changes)

    assert pyramid.plan((100, 300), [(100, 300)], config(smallest))[-1].shape[0] == smallest
    if smallest > 1:
        with pytest.raises(
            InputError, match=f"{layer} needs a shorter side of at least {smallest}"
        ):
            pyramid.plan((100, 300), [(100, 300)], config(smallest - 1))
    # The feed-forward start needs two pixels after three poolings.
    assert pyramid.plan((100, 300), [(100, 300)], config(16, init="adain"))
    with pytest.raises(InputError, match="needs a shorter side of at least 16"):
        pyramid.plan((100, 300), [(100, 300)], config(15, init="adain"))


def test_says_which_style_is_too_small():
    with pytest.raises(InputError, match=r"style image 2 is too small: .* 512x10 pixels"):
        pyramid.plan((400, 500), [(100, 100), (100, 5000)], Config())


def test_a_result_of_too_many_pixels_is_refused():
    config = Config(image_size=2000, max_pixels=2_999_999)
    assert pyramid.plan((300, 600), [(300, 600)], config)[-1].shape == (1000, 2000)
    with pytest.raises(InputError, match="2000x1500 pixels are more than max_pixels, 2999999"):
        pyramid.plan((300, 400), [(300, 600)], config)


def test_bfgs_is_refused_where_it_would_not_fit():
    # Six matrices of n x n float64, as traced in scipy 1.17.1 at n = 500, 1000 and 2000.
    side = int(((system.available_memory() / 48) ** 0.5 / 3) ** 0.5)
    config = {"optimizer": "bfgs", "style_scale": 64 / side}
    assert pyramid.plan((90, 90), [(90, 90)], Config(image_size=int(0.9 * side), **config))
    with pytest.raises(MachineError, match=r"full inverse Hessian.*use --optimizer=lbfgs"):
        pyramid.plan((90, 90), [(90, 90)], Config(image_size=int(1.1 * side), **config))


def shapes_and_iterations(config, content=(427, 640), style=(448, 326)):
    levels = pyramid.plan(content, [style], config)
    return [(level.shape[1], level.num_iterations) for level in levels]


def test_a_small_result_has_the_coarse_levels_of_a_large_one():
    small, large = (
        shapes_and_iterations(Config(image_size=size, num_iterations=40)) for size in (512, 1024)
    )
    assert small == [(256, 80), (512, 40)]
    assert large == [(256, 80), (512, 40), (1024, 20)]


@pytest.mark.parametrize(
    ("size", "asked", "last"),
    [(512, 40, 40), (1024, 40, 20), (4096, 40, 5), (8192, 40, 5), (8192, 200, 12), (4096, 3, 3)],
)
def test_a_large_last_level_has_fewer_iterations_after_coarser_ones(size, asked, last):
    for pyramid_ in ("auto", "128:40,256:20"):
        config = Config(image_size=size, num_iterations=asked, pyramid=pyramid_)
        assert shapes_and_iterations(config)[-1] == (size, last)
    alone = Config(image_size=size, num_iterations=asked, pyramid="none")
    assert shapes_and_iterations(alone) == [(size, asked)]


def test_the_automatic_plan_halves_sizes_and_doubles_iterations():
    assert shapes_and_iterations(Config(num_iterations=10)) == [(256, 20), (512, 10)]
    assert shapes_and_iterations(Config(image_size=1600, num_iterations=3)) == [
        (200, 8), (400, 4), (800, 2), (1600, 3)
    ]  # fmt: skip
    assert shapes_and_iterations(Config(image_size=199, num_iterations=10)) == [(199, 10)]


def test_the_automatic_plan_leaves_out_levels_in_which_little_is_left():
    # Of 4:1, 256x64 are as many pixels as 128x128: below 140x140.
    wide = shapes_and_iterations(Config(num_iterations=10, image_size=1024), content=(200, 800))
    assert wide == [(512, 10), (1024, 5)]
    # 88:1 leaves 15 pixels of height at 1350, below the 16 that block5_conv1 needs.
    wide = shapes_and_iterations(Config(num_iterations=10, image_size=2700), content=(50, 4400))
    assert wide == [(2700, 10)]


@pytest.mark.parametrize("init", ["content", "style", "some.png"])
def test_the_automatic_plan_spares_the_detail_of_an_initial_image(init):
    assert shapes_and_iterations(Config(init=init, num_iterations=10)) == [(512, 10)]
    assert len(shapes_and_iterations(Config(init="noise", num_iterations=10))) == 2


def test_no_iterations_need_no_coarse_levels():
    assert shapes_and_iterations(Config(num_iterations=0)) == [(512, 0)]


def test_styles_keep_their_relative_size_at_every_level():
    config = Config(style_scale=0.5, num_iterations=10)
    levels = pyramid.plan((427, 640), [(448, 326)], config)
    assert [max(level.style_shapes[0]) for level in levels] == [128, 256]


def test_levels_can_be_written_out():
    config = Config(pyramid="100:70, 300:20", num_iterations=5)
    assert shapes_and_iterations(config) == [(100, 70), (300, 20), (512, 5)]


def test_a_level_that_is_not_smaller_than_the_last_is_refused():
    with pytest.raises(InputError, match="its level of 512 pixels is not smaller than 512"):
        pyramid.plan((427, 640), [(448, 326)], Config(pyramid="256:20,512:10"))


def test_a_written_level_too_small_for_the_network_is_refused():
    with pytest.raises(InputError, match="it has 20x13 pixels"):
        pyramid.plan((427, 640), [(448, 326)], Config(pyramid="20:9"))


def test_IMG_15_enlarging_does_not_help_an_image_that_is_too_small():
    for images in (((10, 10), (50, 50)), ((50, 50), (10, 10))):
        with pytest.raises(InputError, match=r"it has 10x10 pixels, and block5_conv1 needs .* 16"):
            pyramid.plan(images[0], [images[1]], Config(image_size=512))
