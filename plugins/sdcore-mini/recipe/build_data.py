"""Build the data set of the embedded model: ``python build_data.py --preset cpu --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mini_recipe import dataset, sources


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, build, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(dataset.PRESETS), default="cpu", help="cpu: 64x64, gpu: 128x128")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; must be empty or absent")
    parser.add_argument("--seed", type=int, default=2024, help="decides backgrounds, captions and pairs")
    parser.add_argument("--backgrounds", type=int, default=3, help="backgrounds of each icon besides white")
    parser.add_argument("--pairs", type=int, default=8000, help="pictures of two icons")
    parser.add_argument("--cache", type=Path, default=sources.default_cache(), help="packages and rasterised icons")
    parser.add_argument("--poses", type=int, default=0, help="pictures of each icon turned, smaller and moved")
    parser.add_argument("--concepts", type=int, help="only the first so many concepts, for a try (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw (default: 1)")
    options = parser.parse_args(arguments)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"--out {options.out} exists and is not an empty folder; remove it or name another")
    for name in ("backgrounds", "pairs", "poses"):
        if getattr(options, name) < 0:
            parser.error(f"--{name} must not be negative")
    if options.concepts is not None and options.concepts < 2:
        parser.error(f"--concepts {options.concepts}: at least 2, of which pairs are made")
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: at least 1")
    try:
        found = dataset.catalogue(options.cache, options.workers, options.concepts)
    except sources.SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = dataset.PRESETS[options.preset]
    summary = dataset.write(
        found,
        options.out,
        size,
        options.seed,
        options.backgrounds,
        options.pairs,
        workers=options.workers,
        poses=options.poses,
    )
    print({key: summary[key] for key in ("concepts", "pictures", "captions", "kinds", "styles")})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
