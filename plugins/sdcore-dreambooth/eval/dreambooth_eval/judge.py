"""The judge: a small network that tells the held-out subjects and some two hundred other icons apart, and its features.

It knows the subjects, which the model does not. It is trained on renderings only, a third of them passed through the
model's codec, because drawn pictures are as soft as that makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .renders import Icon, recipe, render

SIDE, WIDTH = 64, 24
VARIANTS, MORE, EPOCHS, BATCH = 10, 3, 10, 64
"""Renderings of each icon; how many times as many of a subject; rounds; pictures of a batch."""
VERSION = 6


class Network(nn.Module):
    """(n, 3, 64, 64) in 0..1 to features, logits of things, logits of styles."""

    def __init__(self, things: int, styles: int) -> None:
        super().__init__()
        w = WIDTH
        layers: list[nn.Module] = []
        for inside, outside, stride in (
            (3, w, 2),
            (w, 2 * w, 2),
            (2 * w, 4 * w, 2),
            (4 * w, 4 * w, 1),
            (4 * w, 8 * w, 2),
        ):
            layers += [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(True)]
        self.body = nn.Sequential(*layers)
        self.project = nn.Linear(8 * w * 16, 128)
        self.thing = nn.Linear(128, things)
        self.style = nn.Sequential(nn.Linear(14 * w + 128, 96), nn.ReLU(True), nn.Linear(96, styles))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 128), (n, things), (n, styles)."""
        early = self.body[:6](pictures * 2 - 1)
        middle = self.body[6:9](early)
        found = self.body[9:](middle)
        means = torch.cat([part.mean((2, 3)) for part in (early, middle, found)], 1)
        features = self.project(found.flatten(1))
        return features, self.thing(F.relu(features)), self.style(torch.cat([means, features], 1))


@dataclass(frozen=True)
class Judge:
    """A trained network; things are numbered, the subjects first."""

    network: Network
    things: tuple[str, ...]
    styles: tuple[str, ...]
    accuracy: dict[str, float]

    @torch.inference_mode()
    def look(self, pictures: Sequence[Image.Image]) -> tuple[Tensor, list[str], list[str]]:
        """Features (n, 128) of length one, the things and the styles that are seen."""
        features, things, styles = self.network(to_tensor(pictures))
        names = [self.things[i] for i in things.argmax(1).tolist()]
        return F.normalize(features, dim=1), names, [self.styles[i] for i in styles.argmax(1).tolist()]


def to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """(n, 3, 64, 64) in 0..1."""
    import numpy as np

    scaled = [p if p.size == (SIDE, SIDE) else p.resize((SIDE, SIDE), Image.Resampling.BOX) for p in pictures]
    arrays = np.stack([np.asarray(picture.convert("RGB")) for picture in scaled])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


def bank(
    icons: Sequence[Icon], styles: Sequence[str], variants: int, purpose: str, seed: int, subjects: int
) -> tuple[list[Image.Image], Tensor, Tensor]:
    """Renderings of all icons with the numbers of their things and styles."""
    known = recipe()
    table = known.pictures.colours()
    pictures, things, kinds = [], [], []
    for number, icon in enumerate(tqdm(icons, desc=f"renderings, {purpose}", unit="icon", mininterval=1.0)):
        for style, full in icon.icons.items():
            image = full.convert("RGBa").reduce(2).convert("RGBA")  # for 64 pixels it is enough
            seen = known.pictures.visible(image, style) or list(table)
            for variant in range(variants * (MORE if number < subjects else 1)):
                random = known.rng.stream(seed, purpose, icon.name, style, variant)
                shift = (random.uniform(-0.06, 0.06), random.uniform(-0.06, 0.06))
                pictures.append(
                    render(
                        image,
                        style,
                        random.choice(seen),
                        SIDE,
                        random.uniform(-20, 20),
                        random.uniform(0.62, 0.94),
                        shift,
                    )
                )
                things.append(number)
                kinds.append(styles.index(style))
    return pictures, torch.tensor(things), torch.tensor(kinds)


def soften(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Moved a little, blurred, noisy, darker or brighter: each picture in its own way."""
    n = len(pictures)
    dx, dy = torch.randint(-3, 4, (2,), generator=generator).tolist()
    moved = torch.roll(pictures, (dy, dx), (2, 3))
    soft = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(n, 1, 1, 1, generator=generator)
    gain = 0.85 + 0.3 * torch.rand(n, 3, 1, 1, generator=generator)
    noise = torch.randn(moved.shape, generator=generator) * 0.04 * torch.rand(n, 1, 1, 1, generator=generator)
    return ((moved + share * (soft - moved)) * gain + noise).clamp(0, 1)


def train_judge(
    icons: Sequence[Icon], codec: Callable[[Tensor], Tensor], cache: Path, key: str, seed: int, subjects: int
) -> Judge:
    """Train the judge, or take it from the cache.

    Args:
        icons: subjects and others.
        codec: (n, 3, 64, 64) in 0..1 through the model's encoder and decoder.
        cache: a folder.
        key: says what codec that is.
        seed: of everything random.
        subjects: how many of the icons, the first ones, are subjects.
    """
    styles = tuple(sorted({style for icon in icons for style in icon.icons}))
    facts = [VERSION, WIDTH, VARIANTS, MORE, EPOCHS, seed, key, styles, [icon.name for icon in icons]]
    name = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()
    weights, about = cache / f"judge-{name}.safetensors", cache / f"judge-{name}.json"
    network = Network(len(icons), len(styles))
    things = tuple(icon.name for icon in icons)
    if weights.is_file() and about.is_file():
        network.load_state_dict(load_file(weights))
        return Judge(network.eval(), things, styles, json.loads(about.read_text()))
    accuracy = _train(network, icons, styles, codec, seed, subjects)
    cache.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), weights)
    about.write_text(json.dumps(accuracy))
    return Judge(network, things, styles, accuracy)


def _through(codec: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
    parts = tqdm(pictures.split(32), desc="through the codec", unit="batch", mininterval=1.0)
    return torch.cat([codec(part).clamp(0, 1) for part in parts])


def _train(
    network: Network,
    icons: Sequence[Icon],
    styles: tuple[str, ...],
    codec: Callable[[Tensor], Tensor],
    seed: int,
    subjects: int,
) -> dict[str, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    images, things, kinds = bank(icons, styles, VARIANTS, "train", seed, subjects)
    pictures = to_tensor(images)
    some = torch.arange(0, len(pictures), 3)
    pictures[some] = _through(codec, pictures[some])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    count = -(-len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, EPOCHS * count)
    network.train()
    bar = tqdm(total=EPOCHS * count, desc="judge", unit="step", mininterval=1.0)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(pictures), generator=generator).split(BATCH):
            _, thing, style = network(soften(pictures[part], generator))
            loss = F.cross_entropy(thing, things[part], label_smoothing=0.05) + F.cross_entropy(style, kinds[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(1)
    bar.close()
    network.eval()
    images, things, kinds = bank(icons, styles, 2, "test", seed, subjects)
    test = _through(codec, to_tensor(images))
    with torch.inference_mode():
        found = [network(part) for part in test.split(256)]
    right = torch.cat([f[1] for f in found]).argmax(1) == things
    of_subject = things < subjects
    return {
        "things": round(float(right.float().mean()), 4),
        "subjects": round(float(right[of_subject].float().mean()), 4),
        "styles": round(float((torch.cat([f[2] for f in found]).argmax(1) == kinds).float().mean()), 4),
    }
