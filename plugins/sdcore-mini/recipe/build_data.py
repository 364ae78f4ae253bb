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
    options = parser.parse_args(arguments)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"--out {options.out} exists and is not an empty folder; remove it or name another")
    if options.backgrounds < 0 or options.pairs < 0:
        parser.error("--backgrounds and --pairs must not be negative")
    try:
        found = dataset.catalogue(options.cache)
    except sources.SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = dataset.PRESETS[options.preset]
    summary = dataset.write(found, options.out, size, options.seed, options.backgrounds, options.pairs)
    print({key: summary[key] for key in ("concepts", "pictures", "captions", "kinds", "styles")})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
