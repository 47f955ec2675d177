"""The reference: style transfer as neural-style does it, in PyTorch; images and times to files.

The optimizer is `torch.optim.LBFGS` as neural-style-pt sets it: step 1 without line search, a
history of 100, no tolerances. Pixels move freely and are clipped only when an image is saved.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks import gatys_torch
from nst_tf import system
from nst_tf.image.resize import resize
from nst_tf.io import images


@dataclass(frozen=True)
class Save:
    """A saved image.

    Attributes:
        file: Its name.
        evaluation: The evaluation of loss and gradient that it was saved after, from 1.
        seconds: From the start of the process until the file was written.
        printed_loss: The loss of the image before it was clipped and rounded.
        peak_memory_bytes: The largest resident size until then.
    """

    file: str
    evaluation: int
    seconds: float
    printed_loss: float
    peak_memory_bytes: int


class Run:
    """A minimization that saves images.

    Args:
        objective: What is minimized.
        start: RGB [H, W, 3] in [0, 255].
        folder: Where images are saved.
        evaluations: The number of evaluations.
        save_every: The evaluations between saved images; the last image is always saved.
    """

    def __init__(
        self,
        objective: gatys_torch.Objective,
        start: gatys_torch.ImageArray,
        folder: Path,
        evaluations: int,
        save_every: int,
    ) -> None:
        self.saves: list[Save] = []
        self.stop_reason = "all evaluations were made"
        self._objective = objective
        self._image = gatys_torch.as_tensor(start).requires_grad_()
        self._folder = folder
        self._evaluations = evaluations
        self._save_every = save_every
        self._evaluation = 0

    def minimize(self) -> None:
        """Runs to the end, or until the loss is not finite."""
        optimizer = torch.optim.LBFGS(
            [self._image],
            lr=1,
            max_iter=self._evaluations,
            tolerance_grad=-1,
            tolerance_change=-1,
            history_size=100,
        )
        try:
            while self._evaluation < self._evaluations:
                optimizer.step(self._evaluate)  # type: ignore[no-untyped-call]
        except FloatingPointError as error:
            self.stop_reason = str(error)

    def _evaluate(self) -> float:
        loss = self._objective.backward(self._image)
        self._evaluation += 1
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at evaluation {self._evaluation}")
        if self._evaluation == self._evaluations or not self._evaluation % self._save_every:
            self._save(loss)
        return loss

    def _save(self, loss: float) -> None:
        pixels = np.rint(np.clip(gatys_torch.as_image(self._image), 0, 255)).astype(np.uint8)
        name = f"evaluation-{self._evaluation:04d}.png"
        Image.fromarray(pixels).save(self._folder / name)
        seconds, memory = seconds_since_start(), system.peak_memory()
        self.saves.append(Save(name, self._evaluation, seconds, loss, memory))
        print(f"evaluation {self._evaluation}: loss {loss:.5g}, {seconds:.1f} s", flush=True)


def seconds_since_start() -> float:
    """Returns the age of this process, by a clock that is never set."""
    process = psutil.Process()
    # Both contain the boot time, which is known only to the second; their difference does not.
    began = process.create_time() - psutil.boot_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def main() -> None:
    """Runs the command."""
    arguments = _arguments()
    folder = arguments.output_folder
    folder.mkdir(parents=True, exist_ok=True)
    content, style = gatys_torch.read_pair(arguments.content, arguments.style, arguments.image_size)
    start = content
    if arguments.start:
        height, width = content.shape[:2]
        start = resize(images.read(arguments.start), (height, width))
    network = gatys_torch.Network(arguments.precision, arguments.channels_last)
    objective = gatys_torch.Objective(network, content, style, arguments.style_weight)
    run = Run(objective, start, folder, arguments.evaluations, arguments.save_every)
    run.minimize()
    record = {
        "settings": {name: _plain(value) for name, value in vars(arguments).items()},
        "stop_reason": run.stop_reason,
        "seconds": seconds_since_start(),
        "peak_memory_bytes": system.peak_memory(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "saves": [asdict(save) for save in run.saves],
    }
    (folder / "reference.json").write_text(json.dumps(record, indent=2) + "\n")


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--output_folder", type=Path, required=True)
    parser.add_argument("--image_size", type=int, default=512, help="the longer side")
    parser.add_argument("--style_weight", type=float, default=1e5)
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--save_every", type=int, default=25)
    parser.add_argument("--start", type=Path, help="the initial image, in place of the content")
    parser.add_argument("--precision", choices=gatys_torch.PRECISIONS, default="float32")
    parser.add_argument("--channels_last", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
