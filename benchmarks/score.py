"""Scores saved images for all contenders: their float32 loss, computed in PyTorch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import gatys_torch
from nst_tf.errors import InputError
from nst_tf.io import images


def score(
    content: Path, style: Path, image_size: int, style_weight: float, files: Sequence[Path]
) -> dict[str, dict[str, float]]:
    """Computes the loss of saved images.

    Args:
        content: The content image file.
        style: The style image file.
        image_size: The longer side of the result.
        style_weight: The weight of the style against the content's 1.
        files: Image files of the size that `content` has at `image_size`.

    Returns:
        From each file's name as given to "loss", "content_loss" and "style_loss".

    Raises:
        InputError: A file is not an image, or of another size.
    """
    pair = gatys_torch.read_pair(content, style, image_size)
    objective = gatys_torch.Objective(gatys_torch.Network(channels_last=True), *pair, style_weight)
    scores = {}
    for file in files:
        image = images.read(file)
        if image.shape != pair[0].shape:
            raise InputError(
                "cannot score the image",
                f"it has shape {image.shape}, and the content {pair[0].shape}",
                "give the --image_size it was made with",
                where=file,
            )
        with torch.no_grad():
            terms = objective.terms(gatys_torch.as_tensor(image))
        content_loss, style_loss = (term.item() for term in terms)
        scores[str(file)] = {
            "loss": content_loss + style_loss,
            "content_loss": content_loss,
            "style_loss": style_loss,
        }
    return scores


def main() -> None:
    """Prints the scores as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--image_size", type=int, default=512, help="the longer side")
    parser.add_argument("--style_weight", type=float, default=1e5)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    print(json.dumps(score(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
