"""The web page in a browser: from a photo to a file, two pictures, a restart, and accessibility."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests import command as nst_command
from tests.command import ROOT
from tests.web_server import PHOTO, served

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = os.environ.get("AXE_CORE", "")
"""The path of axe-core's axe.min.js, as `npm install axe-core` brings it."""

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 300_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "web"


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as (_, address):
        yield address


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


class opened:  # noqa: N801 - a context manager, used as a function
    """Opens the page; no error may be on its console when it is left."""

    def __init__(self, browser, address, **options):
        self._context = browser.new_context(accept_downloads=True, **options)
        self._page = self._context.new_page()
        self._errors = []
        self._page.on("pageerror", lambda error: self._errors.append(str(error)))
        self._page.set_default_timeout(PATIENCE)
        self._address = address

    def __enter__(self):
        self._page.goto(self._address)
        self._page.wait_for_selector("body[data-ready]")
        return self._page

    def __exit__(self, *error):
        self._context.close()
        assert self._errors == []


def choose(page, size=64, iterations=3, photo=PHOTO, painting="The Scream"):
    """Fills in the form."""
    page.set_input_files("#content-file", photo)
    page.wait_for_selector("#content-image:visible")
    page.get_by_role("button", name=painting).first.click()
    page.fill("#control-image_size", str(size))
    if not page.is_visible("#control-num_iterations"):
        page.click("form summary")
    page.fill("#control-num_iterations", str(iterations))
    page.fill("#control-pyramid", "none")


def state(page, text):
    """Waits until the state of the picture begins with a text."""
    page.locator("#state", has_text=re.compile(f"^{text}")).wait_for()


def test_a_photo_goes_in_and_the_file_of_the_command_comes_out(page, folder, tmp_path):
    choose(page, 128, 8)
    page.click("#make")
    page.wait_for_selector("#after:visible")  # the first version
    state(page, "Iteration")
    state(page, "Finished after 8 iterations")
    assert page.get_attribute("#line", "d").count("L") == 7
    page.select_option("#format", "jpg")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "tubingen_The-Scream.jpg"
    data = Path(download.value.path()).read_bytes()
    shutil.copy(PHOTO, tmp_path / "content.jpeg")
    shutil.copy(ROOT / "images" / "the_scream.jpg", tmp_path / "style-1.jpg")
    done = nst_command.run(
        "content.jpeg", "style-1.jpg", "-o", "picture.jpg", "--image_size=128",
        "--num_iterations=8", "--pyramid=none", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert data == (tmp_path / "picture.jpg").read_bytes()


def test_two_pictures_one_is_stopped_and_a_click_recalls_the_other(page):
    choose(page, 64, 1000)
    page.click("#make")
    state(page, "Iteration")
    page.fill("#control-num_iterations", "2")
    page.click("#make")
    state(page, "Waiting, number 1")
    page.locator("#history button").nth(1).click()
    state(page, "Iteration")
    assert page.input_value("#control-num_iterations") == "1000"
    page.click("#stop")
    state(page, "Stopped after")
    page.locator("#history button").first.click()
    state(page, "Finished after 2 iterations")
    assert page.input_value("#control-num_iterations") == "2"
    page.focus("#compare")
    page.keyboard.press("End")
    assert page.input_value("#compare") == "100"


def test_errors_are_shown_beside_the_button(page, tmp_path):
    page.click("#make")
    assert page.inner_text("#error") == "Choose a photo first."
    choose(page, 9000)
    page.click("#make")
    page.wait_for_selector("#error:has-text('image_size cannot be 9000')")
    name = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    name.write_text("no image")
    page.set_input_files("#content-file", name)
    page.wait_for_selector("#error:has-text('<img src=x onerror=alert(1)>.jpg')")


def test_a_region_is_painted_with_mouse_and_keyboard(page):
    choose(page, 64, 1)
    page.click("#paint")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.8)
    page.mouse.up()
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.click("#done")
    page.wait_for_selector("#mask-note:visible")
    page.click("#make")
    state(page, "Finished after")
    assert "region" in page.inner_text("#facts")


def test_the_server_ends_in_mid_picture_and_goes_on(browser, tmp_path):
    folder = tmp_path / "web"
    with served(folder) as (server, address), opened(browser, address) as page:
        choose(page, 64, 1000)
        page.click("#make")
        state(page, "Iteration")
        server.send_signal(signal.SIGTERM)
        server.wait(90)
        assert server.returncode == 143
        page.wait_for_selector("#error:has-text('The connection is lost')")
    with served(folder) as (_, address), opened(browser, address) as page:
        state(page, "Iteration")
        number = int(re.search(r"Iteration (\d+) of 1000", page.inner_text("#state"))[1])
        assert number > 1
        page.wait_for_selector("#after:visible")
        assert page.get_attribute("#line", "d").count("L") >= number - 2
        page.click("#stop")
        state(page, "Stopped after")


@pytest.mark.skipif(not AXE, reason="AXE_CORE does not name axe-core's axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_axe_finds_no_violation(browser, address, scheme, width):
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(browser, address, **options, bypass_csp=True) as page:

        def check():
            page.evaluate(Path(AXE).read_text(encoding="utf-8"))
            found = page.evaluate("axe.run()")["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

        check()
        page.click("#make")  # an error
        choose(page, 64, 1)
        check()
        page.click("#paint")
        check()
        page.click("#cancel-paint")
        page.click("#make")
        state(page, "Finished")
        check()
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow == 0
