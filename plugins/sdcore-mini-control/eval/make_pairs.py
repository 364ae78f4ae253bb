"""Choose the pairs of the evaluation: edges of icons that the ControlNet was never shown, with prompts.

    python make_pairs.py DATA POSES

writes ``pairs.json`` and ``edges.png`` beside this file. Both are data sets of ``sdcore-mini/recipe/build_data.py``,
the second with ``--poses``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image
from sdcore_controlnet import preprocess_image

HERE = Path(__file__).resolve().parent
HELD_OUT = HERE.parent / "recipe" / "held_out.json"
SIDE, COLUMNS, SEED = 64, 16, 5
STYLES = ("3d", "gradient", "flat", "noto")
COLOURS = ("white", "black", "red", "blue", "green", "yellow", "pink", "purple", "orange", "gray", "sky blue")
KINDS = ("own", "restyled", "other")
POSED = "posed"


def read_rows(data: Path, kind: str = "icon") -> list[dict[str, Any]]:
    """The icons of a data set, or their poses: one line of metadata each."""
    lines = (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind and row["style"] in STYLES]


def prompt_for(kind: str, row: dict[str, Any], others: list[dict[str, Any]], random: Random) -> str:
    """The prompt of a pair.

    Args:
        kind: "own" and "posed": what the icon's caption says; "restyled": the same thing in another style and on
            another background; "other": another thing in another style and on another background.
        row: the icon whose edges are followed.
        others: icons whose names may be asked for instead.
        random: decides.
    """
    if kind in ("own", POSED):
        return str(row["captions"][0])
    source = row if kind == "restyled" else random.choice(others)
    style = random.choice([style for style in STYLES if style != row["style"]])
    colour = random.choice([colour for colour in COLOURS if colour != row["background"]])
    ending = f", {source['style']} style, {source['background']} background"
    return str(source["captions"][0]).removesuffix(ending) + f", {style} style, {colour} background"


def choose(
    rows: list[dict[str, Any]], held_out: set[str], count: int, kinds: Sequence[str] = KINDS, first: int = 0
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(pair, row of its icon): as many of each kind, of concepts that are held out; seeds count from ``first``."""
    random = Random(SEED + first)
    mine = [row for row in rows if row["concept"] in held_out]
    others = [row for row in rows if row["concept"] not in held_out]
    random.shuffle(mine)
    seen: Counter[str] = Counter()
    turns = []
    for row in mine:
        turns.append(seen[row["concept"]])
        seen[row["concept"]] += 1
    # Every concept once, then every concept a second time, ...
    mine = [row for _, row in sorted(zip(turns, mine, strict=True), key=lambda pair: pair[0])]
    found = []
    for number, row in enumerate(mine[:count]):
        kind = kinds[number % len(kinds)]
        pair = {"kind": kind, "concept": row["concept"], "prompt": prompt_for(kind, row, others, random)}
        found.append((pair | {"seed": first + number}, row))
    return found


def main() -> int:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("poses", type=Path)
    parser.add_argument("--count", type=int, default=120, help="of icons as they are in the data")
    parser.add_argument("--posed", type=int, default=60, help="of icons in other poses")
    args = parser.parse_args()
    held_out = set(json.loads(HELD_OUT.read_text(encoding="utf-8")))
    chosen = [(args.data, *one) for one in choose(read_rows(args.data), held_out, args.count)]
    posed = choose(read_rows(args.poses, "pose"), held_out, args.posed, (POSED,), args.count)
    chosen += [(args.poses, *one) for one in posed]
    sheet = Image.new("1", (COLUMNS * SIDE, -(-len(chosen) // COLUMNS) * SIDE))
    for number, (folder, _, row) in enumerate(chosen):
        edges = preprocess_image("canny", folder / row["file_name"]).convert("1")
        sheet.paste(edges, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    sheet.save(HERE / "edges.png", optimize=True)
    text = json.dumps([pair for _, pair, _ in chosen], indent=1, ensure_ascii=False)
    (HERE / "pairs.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
