"""What is measured: each contender's commands for a task, and where it saves its images."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_IMAGES = Path(__file__).parent.parent / "images"


@dataclass(frozen=True)
class Task:
    """The task of all contenders.

    Attributes:
        content: The content image file.
        style: The style image file.
        image_size: The longer side of the result in pixels.
        style_weight: The weight of the style against the content's 1.
        evaluations: The most evaluations of loss and gradient (nst_tf: iterations) to make.
    """

    content: Path
    style: Path
    image_size: int = 512
    style_weight: float = 1e5
    evaluations: int = 500

    @property
    def pair(self) -> str:
        """The name of the two images together."""
        return f"{self.content.stem}+{self.style.stem}"


Command = list[str]


@dataclass(frozen=True)
class Contender:
    """A program with its settings.

    Attributes:
        name: Unique, for the command line and the records.
        description: The name in tables and plots.
        commands: From a task and a new folder to the processes to run there, one after another.
        images: The saved images in that folder, as a glob pattern.
        final: The file that counts as saved at the end of the process, or "".
    """

    name: str
    description: str
    commands: Callable[[Task, Path], list[Command]]
    images: str
    final: str = ""


def _reference_command(task: Task, folder: Path, evaluations: int, *options: str) -> Command:
    return [
        sys.executable,
        "-m",
        "benchmarks.reference",
        f"--content={task.content}",
        f"--style={task.style}",
        f"--output_folder={folder}",
        f"--image_size={task.image_size}",
        f"--style_weight={task.style_weight:g}",
        f"--evaluations={evaluations}",
        "--save_every=25",
        *options,
    ]


def _reference(name: str, description: str, *options: str) -> Contender:
    def commands(task: Task, folder: Path) -> list[Command]:
        return [_reference_command(task, folder, task.evaluations, *options)]

    return Contender(name, description, commands, "evaluation-*.png")


def _reference_two_scales(name: str, description: str, *options: str) -> Contender:
    """Spends two fifths of the evaluations at half the size, and starts from their result."""

    def commands(task: Task, folder: Path) -> list[Command]:
        few = max(1, task.evaluations * 2 // 5)
        small = Task(task.content, task.style, task.image_size // 2, task.style_weight)
        start = folder / "small" / f"evaluation-{few:04d}.png"
        return [
            _reference_command(small, start.parent, few, *options),
            _reference_command(
                task, folder, max(1, task.evaluations - few), *options, f"--start={start}"
            ),
        ]

    return Contender(name, description, commands, "evaluation-*.png")


def _nst_tf(
    name: str,
    description: str,
    *options: str,
    iterations: int | None = None,
    save_iter: int = 0,
) -> Contender:
    """Describes a run of nst_tf; a preset sets the iterations itself, so none are given here."""

    def commands(task: Task, folder: Path) -> list[Command]:
        most = [f"--num_iterations={min(iterations, task.evaluations)}"] if iterations else []
        return [
            [
                sys.executable,
                "-m",
                "nst_tf.main",
                f"--content_image={task.content}",
                f"--style_image={task.style}",
                f"--image_size={task.image_size}",
                f"--style_weight={task.style_weight:g}",
                "--tv_weight=0",
                "--padding=zero",  # as the reference and the scorer have it
                "--margin=0",  # which the scorer does not have either
                f"--output_image={folder / 'out.png'}",
                f"--save_iter={save_iter}",
                *most,
                *options,
            ]
        ]

    return Contender(name, description, commands, "out.png.run/iteration-*.png", "out.png")


REFERENCE = "reference"
"""The contender that the others are compared with."""

CONTENDERS = [
    _reference(REFERENCE, "PyTorch reference", "--channels_last"),
    _reference(
        "reference-bfloat16", "PyTorch, bfloat16", "--channels_last", "--precision=bfloat16"
    ),
    _reference_two_scales("reference-two-scales", "PyTorch, two scales", "--channels_last"),
    _nst_tf(
        "nst_tf-l-bfgs-b",
        "nst_tf L-BFGS-B, float32, from content",
        "--optimizer=l-bfgs-b",
        "--init=content",
        "--precision=float32",
        "--pyramid=none",
        iterations=150,
        save_iter=10,
    ),
    _nst_tf(
        "nst_tf-lbfgs-bfloat16",
        "nst_tf L-BFGS, bfloat16, from AdaIN",
        "--optimizer=lbfgs",
        "--init=adain",
        "--style_strength=1",
        "--precision=bfloat16",
        "--pyramid=none",
        iterations=150,
        save_iter=1,
    ),
    _nst_tf("nst_tf-draft", "nst_tf draft", "--preset=draft"),
    _nst_tf("nst_tf-default", "nst_tf default", "--preset=default"),
    _nst_tf("nst_tf-fine", "nst_tf fine", "--preset=fine"),
]

PAIRS = {
    f"{content}+{style}": (_IMAGES / f"{content}.jpg", _IMAGES / f"{style}.jpg")
    for content, style in (
        ("summer-palace", "starry-night"),
        ("summer-palace", "kandinsky"),
        ("summer-palace", "the_scream"),
        ("tubingen", "starry-night"),
        ("tubingen", "kandinsky"),
    )
}
