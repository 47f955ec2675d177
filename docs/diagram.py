"""Draws the figure of the method, network and losses: `python docs/diagram.py`.

It is docs/method.svg. Layers, channels and settings in it are those of the package.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import nst_tf
from nst_tf.io import files
from nst_tf.models.layers import LAYERS

_FILE = Path(__file__).with_name("method.svg")
_WIDTH, _HEIGHT = 960, 660
_INK, _PALE = "#1f2933", "#7b8794"
_FILLS = {
    "image": "#e8f0fb", "network": "#eef1f4", "content": "#d9ead7", "style": "#fbe3d4",
    "other": "#f2e6f7",
}  # fmt: skip
_TOPS = {1: 150, 2: 142, 3: 124, 4: 100, 5: 76}
"""Heights of the bars of each block: it halves the image."""


class Drawing:
    """An SVG image made of boxes, lines and texts."""

    def __init__(self) -> None:
        self._root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
                "font-family": "Helvetica, Arial, sans-serif", "font-size": "13", "role": "img",
            },
        )  # fmt: skip
        self._add("title", "Neural style transfer in six steps")
        marker = {"id": "tip", "viewBox": "0 0 8 8", "refX": "7", "refY": "4"}
        sizes = {"markerWidth": "7", "markerHeight": "7", "orient": "auto"}
        tip = ET.SubElement(ET.SubElement(self._root, "defs"), "marker", {**marker, **sizes})
        ET.SubElement(tip, "path", {"d": "M0,0 L8,4 L0,8 z", "fill": _INK})
        self._add("rect", width=_WIDTH, height=_HEIGHT, rx=12, fill="#ffffff")

    def _add(self, tag: str, content: str = "", **attributes: object) -> None:
        names = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
        ET.SubElement(self._root, tag, names).text = content or None

    def text(self, x: float, y: float, words: str, **attributes: object) -> None:
        """Writes a line of text."""
        self._add("text", words, x=x, y=y, **{"fill": _INK, **attributes})

    def box(self, x: float, y: float, w: float, h: float, fill: str, *lines: str) -> None:
        """Draws a box with lines of text in its middle, the first of them bold."""
        self._add("rect", x=x, y=y, width=w, height=h, rx=6, fill=_FILLS[fill], stroke=_INK)
        top = y + h / 2 - 9 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            weight = "normal" if number else "bold"
            self.text(x + w / 2, top + 18 * number, line, text_anchor="middle", font_weight=weight)

    def line(self, *points: tuple[float, float], color: str = _INK, tip: bool = True) -> None:
        """Draws a line through points, with an arrow's tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = {"marker-end": "url(#tip)"} if tip else {}
        self._add("polyline", points=path, fill="none", stroke=color, **end)

    def step(self, number: int, x: float, y: float, words: str) -> None:
        """Writes the number of a step and what it is."""
        self._add("circle", cx=x, cy=y, r=12, fill=_INK)
        self.text(x, y + 5, str(number), fill="#ffffff", text_anchor="middle", font_weight="bold")
        self.text(x + 20, y + 5, words, font_weight="bold")

    def to_bytes(self) -> bytes:
        """Returns the SVG file."""
        ET.indent(self._root)
        return ET.tostring(self._root, encoding="utf-8") + b"\n"


def draw() -> bytes:
    """Returns the figure as an SVG file."""
    config = nst_tf.Config()
    drawing = Drawing()
    _draw_images(drawing)
    tapped = _draw_network(drawing, set(config.style_layers), set(config.content_layers))
    _draw_losses(drawing, config, tapped)
    _draw_optimization(drawing)
    return drawing.to_bytes()


def _draw_images(drawing: Drawing) -> None:
    drawing.step(1, 36, 32, "load and preprocess")
    images = {"content": "upright, sRGB", "style": "its own aspect", "result x": "in [0, 255]"}
    for y, (name, what) in zip((60, 126, 192), images.items(), strict=True):
        drawing.box(24, y, 130, 52, "image", name, what)
        drawing.line((154, y + 26), (196, y + 26))


def _draw_network(drawing: Drawing, style: set[str], content: set[str]) -> dict[str, float]:
    """Draws VGG19, and returns where the layers with a loss are."""
    drawing.step(2, 216, 32, "features: VGG19, with fixed weights")
    drawing.box(198, 54, 738, 196, "network")
    positions, x = {}, 214.0
    block_before = 1
    for layer, channels in LAYERS.items():
        block = int(re.findall(r"\d", layer)[0])
        if block != block_before:
            drawing.text(x + 4, 156, "▸", fill=_PALE)  # pooling
            x += 22
            block_before = block
        height = _TOPS[block]
        fill = "style" if layer in style else "content" if layer in content else "network"
        width = 12 + channels / 32
        drawing.box(x, 150 - height / 2, width, height, fill)
        if layer.endswith("conv1"):
            drawing.text(x, 68, f"block{block}: {channels}", font_size=11)
        positions[layer] = x + width / 2
        x += width + 6
    drawing.text(
        918, 242, "▸ pooling halves the sides", font_size=11, fill=_PALE, text_anchor="end"
    )
    return {layer: place for layer, place in positions.items() if layer in style | content}


def _draw_losses(drawing: Drawing, config: nst_tf.Config, tapped: dict[str, float]) -> None:
    drawing.step(3, 700, 363, "losses")
    for layer, x in tapped.items():
        block = int(re.findall(r"\d", layer)[0])
        is_style = layer in config.style_layers
        drawing.line(
            (x, 150 + _TOPS[block] / 2), (x, 330 if is_style else 310), color=_PALE, tip=is_style
        )
    (content_layer,) = config.content_layers
    style_places = [tapped[layer] for layer in config.style_layers]
    left, right = min(style_places) - 14, max(style_places) + 30
    layers = ", ".join(map(_short, config.style_layers))
    drawing.box(
        left,
        332,
        right - left,
        62,
        "style",
        "style loss: of Gram matrices G = F'F / positions",
        f"weight {_short_number(config.style_weight)}, layers {layers}",
    )
    drawing.line(
        (tapped[content_layer], 310), (884, 310), (884, 416), (760, 416), (760, 430), color=_PALE
    )
    drawing.box(
        620,
        432,
        316,
        62,
        "content",
        "content loss: mean((F - P)²)",
        f"weight {config.content_weight:g}, layer {_short(content_layer)}",
    )
    drawing.line((176, 218), (176, 440), (212, 440), color=_PALE)
    drawing.box(
        214,
        432,
        380,
        62,
        "other",
        "grain, total variation, own terms",
        f"of the pixels; weights {config.grain_weight:g}, {config.tv_weight:g}",
    )


def _short_number(value: float) -> str:
    return f"{value:.0e}".replace("e+0", "e")


def _short(layer: str) -> str:
    return layer.removeprefix("block").replace("_conv", "_")


def _draw_optimization(drawing: Drawing) -> None:
    for x, bottom_of_loss in ((404, 494), (607, 394), (778, 494)):
        drawing.line((x, bottom_of_loss), (x, 510), (325, 510), (325, 554), color=_PALE)
    drawing.step(5, 356, 532, "optimization: L-BFGS within the bounds")
    drawing.box(
        214, 556, 222, 72, "network", "loss and its gradient", "to the pixels, by backpropagation"
    )
    drawing.box(
        476,
        556,
        222,
        72,
        "network",
        "a step that lowers the loss",
        "0 ≤ x ≤ 255, from coarse to fine",
    )
    drawing.line((436, 592), (474, 592))
    drawing.step(4, 36, 532, "starting picture")
    drawing.box(24, 446, 130, 66, "image", "AdaIN", "a feed-forward", "network")
    drawing.line((89, 446), (89, 246))
    drawing.line((587, 628), (587, 646), (12, 646), (12, 218), (22, 218))
    drawing.text(26, 640, "the new x, evaluated again", font_size=11, fill=_PALE)
    drawing.step(6, 750, 532, "post-processing")
    drawing.box(
        738,
        556,
        198,
        72,
        "image",
        "round once, save",
        "own colors and regions",
        "put back where asked",
    )
    drawing.line((698, 592), (736, 592))


def main() -> None:
    """Writes the figure."""
    files.atomic_write(_FILE, draw())


if __name__ == "__main__":
    main()
