"""What safety costs: Safe Latent Diffusion against a run without it, and every check for a picture or a prompt.

    python benchmarks/safety.py            # all, about five minutes
    python benchmarks/safety.py --quick    # three rounds, to see that it runs

Both sides are interleaved in rounds of random order within one process, on one thread, measured as process time; the
figure is the median over rounds of the ratio within a round. With classifier-free guidance a step has two branches,
with SLD three: 1.5 is what the U-Net costs more. A run has parts besides, so that its ratio is lower.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead import process_seconds, small_sd15  # importing it sets one thread, before torch is there

HERE = Path(__file__).parent
BAR = 1.5
PROMPT = "a green apple, flat style, white background"


def interleaved(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Process seconds of each side, round by round."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    shuffled = random.Random(0)
    for round_ in range(rounds + 1):
        for name in shuffled.sample(list(sides), len(sides)):
            seconds = process_seconds(sides[name])
            if round_:  # the first round warms up
                spent[name].append(seconds)
    return spent


def ratio(spent: dict[str, list[float]], over: str, under: str) -> dict[str, Any]:
    """Median and quartiles of the ratio within a round."""
    found = [a / b for a, b in zip(spent[over], spent[under], strict=True)]
    return {"ratio": statistics.median(found), "quartiles": statistics.quantiles(found, n=4), "rounds": len(found)}


def guidance(source: Path | None, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """A run with SLD against one without; all other layers are off."""
    import torch
    from sdcore_safety import Safety, SafetyPlugin

    from sdcore import Engine

    engine, bare = Engine.load(source, plugins=[SafetyPlugin]), Engine.load(source, plugins=[])
    off = Safety(checks=("blocklist",), early=None, previews="show")
    on = off.model_copy(update={"sld": "max"})

    def draw(engine: Engine, *use: Any) -> Any:
        fields = {"seed": 1, "steps": steps, "height": size, "width": size, "output": "latent"}
        return engine.generate(PROMPT, use=use, **fields).latents

    spent = interleaved(
        {"on": lambda: draw(engine, on), "off": lambda: draw(engine, off), "without": lambda: draw(bare)}, rounds
    )
    return {
        "off_is_identical_to_not_installed": bool(torch.equal(draw(engine, off), draw(bare))),
        "on_to_without": ratio(spent, "on", "without"),
        "off_to_without": ratio(spent, "off", "without"),
        "within_the_bar": ratio(spent, "on", "without")["ratio"] <= BAR,
    }


def unet(source: Path, size: int, rounds: int) -> dict[str, Any]:
    """The U-Net alone, on three rows against two."""
    import torch

    from sdcore import Engine

    model = Engine.load(source, plugins=[]).model
    context = torch.randn(3, 77, model.unet.config.cross_attention_dim)
    sample = torch.randn(3, 4, size // model.vae_scale_factor, size // model.vae_scale_factor)

    def call(rows: int) -> Any:
        with torch.no_grad():
            return model.unet(sample[:rows], 500, encoder_hidden_states=context[:rows])

    return ratio(interleaved({"three": lambda: call(3), "two": lambda: call(2)}, rounds), "three", "two")


def checks(rounds: int) -> dict[str, float]:
    """Milliseconds of process time: a prompt, or a picture of 512 pixels."""
    from PIL import Image
    from sdcore_safety.check import CheckSettings
    from sdcore_safety.checks.blocklist import BlocklistCheck
    from sdcore_safety.checks.embedding import EmbeddingCheck
    from sdcore_safety.checks.nsfwjs import NsfwjsCheck

    from sdcore import Engine

    settings = CheckSettings(Engine.load(plugins=[]).model)
    block, near, picture = BlocklistCheck(settings), EmbeddingCheck(settings), NsfwjsCheck(settings)
    image = Image.effect_noise((512, 512), 80).convert("RGB")
    spent = interleaved(
        {
            "blocklist, a prompt": lambda: [block.score(PROMPT) for _ in range(20)],
            "embedding, a prompt": lambda: [near.score(PROMPT) for _ in range(20)],
            "nsfwjs, a picture of 512 pixels": lambda: [picture.score(image) for _ in range(4)],
        },
        rounds,
    )
    times = {"blocklist, a prompt": 20, "embedding, a prompt": 20, "nsfwjs, a picture of 512 pixels": 4}
    return {name: statistics.median(seconds) / times[name] * 1e3 for name, seconds in spent.items()}


def main() -> None:
    """Measure, print, write benchmarks/results/safety.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "safety.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    rounds = 3 if args.quick else args.rounds
    with tempfile.TemporaryDirectory() as scratch:
        small = small_sd15(Path(scratch) / "small", 4)
        found = {
            "sld, embedded model, 64 pixels, 20 steps": guidance(None, 64, 20, rounds),
            "sld, small SD1.5 shape, 128 pixels, 6 steps": guidance(small, 128, 6, rounds),
            "unet alone, small SD1.5 shape, 3 rows to 2": unet(small, 128, rounds),
            "milliseconds": checks(rounds),
        }
    print(json.dumps(found, indent=2))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"threads": 1, "bar": BAR, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
