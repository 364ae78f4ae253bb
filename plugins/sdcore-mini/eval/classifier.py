"""The classifier of icons: states its accuracy, or trains it anew with ``--retrain``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipe"))

import torch
from mini_eval import augment, network, renderings
from mini_recipe import dataset, icons, sources
from mini_recipe.pictures import colours, is_dark
from mini_recipe.rng import stream
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
WIDTH, BATCH, STEPS, RATE, SEED = 32, 64, 2400, 3e-3, 11


class Batches:
    """Random renderings of the icons, the same for the same seed and number."""

    def __init__(self, icon_table: renderings.IconTable, concepts: list[str], seed: int) -> None:
        names = list(colours())
        self.pixels, self.seed = icon_table.pixels, seed
        self.palette = torch.tensor(list(colours().values()), dtype=torch.float32) / 255
        self.dark = torch.tensor([is_dark(colour) for colour in colours().values()])
        self.seen = torch.tensor([[name in seen for name in names] for seen in icon_table.seen], dtype=torch.float32)
        self.lines = torch.tensor([style == "line art" for _, style in icon_table.keys])
        self.concepts = torch.tensor([concepts.index(name) for name, _ in icon_table.keys])
        self.styles = torch.tensor([network.STYLES.index(network.style_class(style)) for _, style in icon_table.keys])

    def make(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (BATCH, 3, 64, 64), concepts and styles (BATCH,)."""
        count = len(self.pixels)
        per_epoch = count // BATCH
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        chosen = order[place * BATCH : (place + 1) * BATCH]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 500_000 + step)
        colour = torch.multinomial(self.seen[chosen], 1, generator=generator).flatten()
        ground = self.palette[colour] + (torch.rand(BATCH, 3, generator=generator) - 0.5) * 0.12
        ink = torch.where(self.lines[chosen], self.dark[colour].float(), torch.nan)
        placed = augment.transform(
            self.pixels[chosen].float() / 255,
            augment.uniform(generator, BATCH, 0.76, 0.98),
            augment.uniform(generator, BATCH, -6, 6),
            (torch.rand(BATCH, 2, generator=generator) - 0.5) * 0.1,
            network.SIDE,
        )
        pictures = augment.disturb(augment.on_ground(placed, ground.clamp(0, 1), ink), generator)
        return pictures, self.concepts[chosen], self.styles[chosen]


def test_set(icon_table: renderings.IconTable) -> Tensor:
    """One held-out rendering of every icon."""
    pictures = []
    cells = list(zip(icon_table.keys, icon_table.paths, icon_table.seen, strict=True))
    for (concept, style), path, seen in tqdm(cells, desc="held-out renderings", unit="icon", mininterval=1.0):
        colour = stream(SEED, "test", concept, style).choice(seen or ("sky blue",))
        picture = renderings.held_out(icons.load(path), concept, style, colour, network.SIDE)
        pictures.append(renderings.to_tensor(picture))
    return torch.stack(pictures)


def accuracy(judge: network.Judge, pictures: Tensor, icon_table: renderings.IconTable) -> dict[str, float]:
    """Shares of pictures whose concept (first guess, first five) and style are found."""
    concepts = torch.tensor([judge.concepts.index(name) for name, _ in icon_table.keys])
    styles = torch.tensor([judge.styles.index(network.style_class(style)) for _, style in icon_table.keys])
    by_concept, by_style = judge.scores(pictures)
    return {
        "concept_top1": round((by_concept.argmax(1) == concepts).float().mean().item(), 4),
        "concept_top5": round((by_concept.topk(5).indices == concepts[:, None]).any(1).float().mean().item(), 4),
        "style": round((by_style.argmax(1) == styles).float().mean().item(), 4),
    }


def measure(judge: network.Judge, icon_table: renderings.IconTable) -> dict[str, dict[str, float]]:
    """Accuracy on held-out renderings as they are, and on the same ones blurred and with noise."""
    pictures = test_set(icon_table)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(SEED)) * 0.03
    worse = (augment.blur(pictures, torch.full((len(pictures),), 1.0)) + noise).clamp(0, 1)
    return {"held-out": accuracy(judge, pictures, icon_table), "blurred": accuracy(judge, worse, icon_table)}


def train(icon_table: renderings.IconTable, concepts: list[str], steps: int, seed: int) -> network.Classifier:
    """Train from nothing: AdamW, one warm-up, cosine to zero, label smoothing."""
    torch.manual_seed(seed)
    model = network.Classifier(len(concepts), len(network.STYLES), WIDTH)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / (steps - warm)))
        ),
    )
    batches = Batches(icon_table, concepts, seed)
    bar = tqdm(range(steps), desc="training", unit="step", mininterval=2.0)
    smooth = 0.0
    for step in bar:
        pictures, concept, style = batches.make(step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pictures.contiguous(memory_format=torch.channels_last)).float()
        # Both must be right at once; the style alone counts besides, so that it is learned early.
        loss = F.cross_entropy(logits.flatten(1), concept * len(network.STYLES) + style, label_smoothing=0.05)
        loss = loss + 0.5 * F.cross_entropy(logits.logsumexp(1), style)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{smooth:.3f}")
    trained: network.Classifier = model.eval()
    return trained


def main(arguments: list[str] | None = None) -> int:
    """Train if asked, and print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrain", action="store_true", help="train from nothing and replace the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of {BATCH} pictures (default: {STEPS})")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the weights")
    parser.add_argument("--cache", type=Path, default=sources.default_cache(), help="packages and rasterised icons")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        catalogues = [dataset.catalogue(options.cache), dataset.held_out_catalogue(options.cache)]
    except sources.SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    icon_table = renderings.table(catalogues)
    concepts = [concept.name for catalogue in catalogues for concept in catalogue.concepts]
    if options.retrain:
        began = time.monotonic()
        trained = train(icon_table, concepts, options.steps, SEED)
        judge = network.Judge(trained.float(), tuple(concepts), network.STYLES)
        facts = {
            "steps": options.steps,
            "batch": BATCH,
            "seed": SEED,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "pictures tested": len(icon_table.keys),
            "accuracy": measure(judge, icon_table),
        }
        network.save(judge, options.out, WIDTH, facts)
    print(measure(network.load(options.out), icon_table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
