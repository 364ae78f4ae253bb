"""The classifier: a small residual network that says which concept in which style a picture shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64
#: Styles that the classifier tells apart. The vector icons with gradients and the 3D renders of Fluent Emoji are
#: the same drawings, and at 64 pixels mostly the same pictures, so they are one class.
STYLES = ("3d", "flat", "noto", "line art")
WEIGHTS, CONFIG = "classifier.safetensors", "classifier.json"


def style_class(style: str) -> str:
    """The class under which a style of the data is judged."""
    return "3d" if style == "gradient" else style


class Block(nn.Module):
    """Two 3x3 convolutions with a skip connection; the first may halve the picture."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.skip = nn.Conv2d(channels_in, channels, 1, bias=False) if channels_in != channels else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(count, channels_in, h, w) to (count, channels, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        return F.relu(y + self.skip(x), inplace=True)


class Classifier(nn.Module):
    """Pictures of 64x64 pixels to one logit for each concept in each style.

    The two are judged together because how a style looks depends on the thing: a flat circle is nearly a circle of
    Noto, and only its exact red tells them apart.
    """

    def __init__(self, concepts: int, styles: int, width: int = 32) -> None:
        super().__init__()
        w = width
        self.shape = (concepts, styles)
        self.stem = nn.Sequential(nn.Conv2d(3, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True))
        self.first, self.second, self.third = Block(w, 2 * w, 2), Block(2 * w, 4 * w, 2), Block(4 * w, 8 * w, 2)
        self.places = nn.Conv2d(8 * w, 2 * w, 1)
        # Means and spreads of the early layers say how fills and edges are drawn.
        self.mix = nn.Linear(2 * w * 16 + 8 * w + 2 * 2 * w + 2 * 4 * w, 8 * w, bias=False)
        self.norm = nn.BatchNorm1d(8 * w)
        self.head = nn.Linear(8 * w, concepts * styles)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (count, concepts, styles) of pictures (count, 3, 64, 64) in 0..1."""
        early = self.first(self.stem(pictures * 2 - 1))
        middle = self.second(early)
        late = self.third(middle)
        found = [self.places(late).flatten(1), late.mean((2, 3))]
        for features in (early, middle):
            found += [features.mean((2, 3)), features.flatten(2).std(2)]
        mixed = F.relu(self.norm(self.mix(torch.cat(found, 1))))
        joint: Tensor = self.head(mixed).reshape(-1, *self.shape)
        return joint


@dataclass(frozen=True)
class Judge:
    """A trained classifier with the names of its classes."""

    network: Classifier
    concepts: tuple[str, ...]
    styles: tuple[str, ...]

    @torch.inference_mode()
    def scores(self, pictures: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
        """Log-probabilities of pictures (count, 3, 64, 64) in 0..1: (count, concepts), (count, styles)."""
        logits = torch.cat([self.network(part) for part in torch.split(pictures, batch)])
        joint = logits.flatten(1).log_softmax(1).reshape(logits.shape)
        return joint.logsumexp(2), joint.logsumexp(1)


def save(judge: Judge, folder: Path, width: int, facts: dict[str, object]) -> None:
    """Write the weights in float16 and the names and facts as JSON."""
    tensors = {
        key: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for key, value in judge.network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    config = {"width": width, **facts, "styles": judge.styles, "concepts": judge.concepts}
    beside = folder / f"{WEIGHTS}.tmp"
    save_file(tensors, beside)
    beside.replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path) -> Judge:
    """The classifier of a folder.

    Raises:
        FileNotFoundError: there is none; it says how to train it.
    """
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"no classifier in {folder}; train it with `python {folder / 'classifier.py'} --retrain`"
        )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    network = Classifier(len(config["concepts"]), len(config["styles"]), config["width"])
    tensors = {key: value.float() for key, value in load_file(folder / WEIGHTS).items()}
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if "num_batches_tracked" not in key]
    if missing or unexpected:
        raise ValueError(f"{folder / WEIGHTS} is not this classifier: lacks {missing}, has {unexpected}")
    return Judge(network.eval(), tuple(config["concepts"]), tuple(config["styles"]))
