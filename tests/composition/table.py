"""Write docs/composition.md: every cell carried out, and compared where diffusers has a class. `make composition`.

`--check` compares which cells there are, and with what they are compared, without carrying anything out.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from . import pairs
from .matrix import CELLS, CONTROLS, FAMILIES, LORAS, OTHERS, TASKS, Cell

PAGE = Path(__file__).parents[2] / "docs" / "composition.md"
NAMES = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}
HEAD = """<!-- Written by tests/composition/table.py (`make composition`); edit that. -->

# What goes together

Every combination below is one request with the plugins in `use`: no combination has code of its own. `make test`
carries out each of the {count} cells on small random models (those of SD2: `make test-slow`), twice: it runs, it is
deterministic bit for bit, it differs from the same without one of its plugins, and the weights are untouched after it.

* **same**: diffusers {version} has a pipeline class for it, and the latents agree with it after every step. The number
  is the largest difference over the steps, relative to max(1, largest latent); the tests allow 1e-5.
* **ours**: diffusers has no class for it.

"""
FOOT = """
The classes that cells are compared with: {classes}.

A LoRA in them changes the U-Net and the text encoders; that of diffusers is fused (`fuse_lora`), as it is here. Of two,
the second has a weight that grows from 0.2 to 1 over the steps. The second ControlNet acts in the first 70 % of the
steps. Adding a plugin to this table is one line in `tests/composition/matrix.py`.
"""


def page(measure: Callable[[Cell], str]) -> str:
    """The page, with what ``measure`` gives for a cell."""
    import diffusers

    text = HEAD.format(count=len(CELLS), version=diffusers.__version__)
    for task in TASKS:
        text += f"## {task}\n\n| control | LoRA | " + " | ".join(NAMES[family] for family in FAMILIES) + " |\n"
        text += "|---|---|" + "---|" * len(FAMILIES) + "\n"
        for control in CONTROLS:
            for lora in LORAS:
                cells = [Cell(family, task, control, lora) for family in FAMILIES]
                text += f"| {control} | {lora} | " + " | ".join(map(measure, cells)) + " |\n"
        text += "\n"
    text += "## Other plugins, each with a ControlNet, a T2I-Adapter and two LoRAs\n\n| plugin | task | "
    text += " | ".join(NAMES[family] for family in FAMILIES) + " |\n|---|---|" + "---|" * len(FAMILIES) + "\n"
    for other in OTHERS:
        for task in TASKS:
            cells = [cell for cell in CELLS if (cell.other, cell.task) == (other, task)]
            text += f"| {other} | {task} | " + " | ".join(map(measure, cells)) + " |\n"
    text += pairs.page() + "\n"
    classes = sorted({cell.peer for cell in CELLS if cell.peer is not None})
    return text + FOOT.format(classes=", ".join(f"`{name}`" for name in classes))


def measured(cell: Cell) -> str:
    """Carry out a cell, and compare."""
    from sdcore.testing.parity import difference

    from .peers import by_diffusers
    from .test_cells import TOLERANCE, made

    print(cell, file=sys.stderr)
    ours = made(cell)
    if cell.peer is None:
        return "ours"
    apart = difference(ours, by_diffusers(cell))
    if apart > TOLERANCE:
        raise SystemExit(f"{cell}: {apart} from {cell.peer}, above {TOLERANCE}")
    return f"same ({apart:.0e})" if apart else "same (identical)"


def stated(cell: Cell) -> str:
    """What a cell is, not carried out."""
    return "ours" if cell.peer is None else "same"


def is_fresh() -> bool:
    """Whether the page lists these cells, and compares them with these classes."""
    return PAGE.is_file() and re.sub(r"same \([^)]*\)", "same", PAGE.read_text(encoding="utf-8")) == page(stated)


def main() -> int:
    """Write the page, or with ``--check`` say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page lists other cells")
    if parser.parse_args().check:
        return 0 if is_fresh() else 1
    warnings.simplefilter("ignore")
    PAGE.write_text(page(measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
