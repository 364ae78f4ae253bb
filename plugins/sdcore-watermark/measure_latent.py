"""Measure the scheme ``latent`` on a model: p-values of pictures with and without the mark.

    python plugins/sdcore-watermark/measure_latent.py --seeds 20 --json latent.json

Each picture is drawn twice, with the mark and without; both are carried back, blindly and with what the flags tell.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sdcore_watermark import Key, Watermark, detect_latent

from sdcore import Engine
from sdcore.cli.kit import open_bar
from sdcore.files import write_atomic

PROMPTS = ("a red apple, flat style", "a house", "a cat face", "a blue car")
KEY = Key((bytes(range(32)),))


def row(values: list[Any], seconds: float) -> dict[str, Any]:
    """What is told about the detections of some pictures."""
    p = sorted(found.p_value for found in values)
    return {
        "pictures": len(p),
        **{f"found_{level:g}": sum(value <= level for value in p) for level in (1e-2, 1e-3, 1e-6)},
        "p_median": statistics.median(p),
        "p_smallest": p[0],
        "p_largest": p[-1],
        "z_mean": round(statistics.fmean(found.score for found in values), 2),
        "seconds": round(seconds / len(p), 2),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--decoder-steps", type=int, default=60, help="0 leaves that way out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine = Engine.load(args.model, plugins=["watermark"])
    with tempfile.TemporaryDirectory() as folder:
        report = measured(
            engine, args, Watermark.model_validate({"key": str(KEY.save(Path(folder) / "key")), "latent": True})
        )
    print(json.dumps(report, indent=1))
    if args.json:
        write_atomic(args.json, (json.dumps(report, indent=1) + "\n").encode(), overwrite=True)


def measured(engine: Engine, args: argparse.Namespace, marked: Watermark) -> dict[str, Any]:
    """The figures by what was known, mark and guidance."""
    ways = {"blind": (False, 0), "prompt known": (True, 0)}
    if args.decoder_steps:
        ways["prompt known, through the decoder"] = (True, args.decoder_steps)
    bar = open_bar(4 * args.seeds * len(ways), "look")
    report: dict[str, Any] = {"seeds": args.seeds, "steps": args.steps, "rows": {}}
    try:
        for guidance in (1.0, 4.0):
            found: dict[str, list[Any]] = {}
            spent: dict[str, float] = {}
            for seed, with_mark in itertools.product(range(args.seeds), (True, False)):
                prompt = PROMPTS[seed % len(PROMPTS)]
                drawn: dict[str, Any] = {"seed": seed, "steps": args.steps, "guidance_scale": guidance}
                image = engine.generate(prompt, **drawn, use=[marked] if with_mark else []).image
                for name, (known, decoder_steps) in ways.items():
                    title = f"{name}, {'marked' if with_mark else 'unmarked'}, guidance {guidance:g}"
                    started = time.process_time()
                    about: dict[str, Any] = {"steps": args.steps, "decoder_steps": decoder_steps}
                    told = detect_latent(engine, image, KEY, prompt=prompt if known else "", **about)
                    found.setdefault(title, []).append(told)
                    spent[title] = spent.get(title, 0.0) + time.process_time() - started
                    if bar is not None:
                        bar.update(1)
            report["rows"] |= {title: row(values, spent[title]) for title, values in found.items()}
    finally:
        if bar is not None:
            bar.close()
    return report


if __name__ == "__main__":
    main()
