"""What the benchmarks of plugins share: two sides interleaved, their ratio, a table, a file.

Both sides are interleaved in rounds of random order within one process, on one thread, measured as process time; the
figure is the median over rounds of the ratio within a round. Before it is measured, latents are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead import process_seconds  # importing it sets one thread, before torch is there

HERE = Path(__file__).parent
Side = Callable[[str], Any]
"""A side's work; ``"latent"`` gives the latents, anything else pictures."""


def ratio_of(ours: Side, theirs: Side, rounds: int, bar: float) -> dict[str, Any]:
    """The ratio of process times, and whether both make the same latents."""
    import torch

    torch.set_num_threads(1)
    identical = bool(torch.equal(theirs("latent"), ours("latent")))
    spent: dict[Side, list[float]] = {ours: [], theirs: []}
    shuffled = random.Random(0)
    for round_ in range(rounds + 1):
        for side in shuffled.sample([ours, theirs], 2):  # a run's speed depends on what ran before it
            seconds = process_seconds(lambda side=side: side("pil"))
            if round_:  # the first round warms up
                spent[side].append(seconds)
    ratios = [mine / base for mine, base in zip(spent[ours], spent[theirs], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "rounds": rounds,
        "identical_latents": identical,
        "ratio_to_diffusers": ratio,
        "quartiles": statistics.quantiles(ratios, n=4) if rounds > 1 else [ratio] * 3,
        "within_the_bar": ratio <= bar,
    }


def main(name: str, about: str, bar: float, measure: Callable[[int], dict[str, Any]]) -> None:
    """Measure, print a table, write benchmarks/results/NAME.json."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{name}.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    found = measure(3 if arguments.quick else arguments.rounds)
    print(table(found))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"versions": versions, "threads": 1, "bar": bar, **found}, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = ["| what | sdcore / diffusers | quartiles | latents |", "|---|---|---|---|"]
    for name, found in results.items():
        low, _, high = found["quartiles"]
        same = "identical" if found["identical_latents"] else "differ"
        lines.append(f"| {name} | {found['ratio_to_diffusers']:.3f} | {low:.3f} to {high:.3f} | {same} |")
    return "\n".join(lines)
