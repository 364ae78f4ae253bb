"""sdcore against diffusers, in every cell of the matrix of tests/parity: writes docs/reference/parity.md.

    python benchmarks/parity_table.py            # about fifteen minutes on one core
    python benchmarks/parity_table.py --quick    # only what the tests always run; writes nothing unless --out

Every figure is the largest difference of any latent after any step, over all guidance settings and numbers of
pictures, relative to max(1, largest latent of the step); "0" means the same bits.
"""

# ruff: noqa: E501 - rows of a table
from __future__ import annotations

import argparse
import os
import platform
import sys
import warnings
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "reference" / "parity.md"
sys.path.insert(0, str(HERE.parent / "tests"))

TEXT = """# Parity with diffusers

What sdcore computes, compared with the pipeline classes of diffusers {diffusers} on the same small random components
from the same folder: float32, CPU, one thread, one generator for each picture. Latents are compared **after every
step**, and the latents that are returned; the timesteps visited must be equal.

{cells} cells: model x task x scheduler x guidance (1, 7.5, and 7.5 with rescale 0.7 where the pipeline has it) x
pictures (1 and 3). In **{zero}** of them all latents of all steps are the same bits{worst}.

On some processors MKL's matrix products depend, in the last digit, on where in memory the factors lie, so that two copies
of one model differ. There this needs the environment variable `MKL_CBWR=AVX2,STRICT`, which the tests set.

Each figure below is the largest over the guidance settings and numbers of pictures, relative to max(1, largest latent
of the step). `0`: the same bits. `-`: one of the two has no such thing: diffusers has no class that draws from text
with the refiner; DDIM's inverse cannot add noise to a picture; zero-SNR schedules are for v-prediction.

Made by `{command}` with torch {torch}, transformers {transformers}, Python {python}.
`tests/parity` asserts the zeros: every model, task and scheduler in every test run, the complete product with
`pytest -m slow tests/parity`. Also there, each with difference 0: strengths 0.3, 0.6 and 1; eta; custom timesteps and
sigmas; clip skip; no, empty and given negative prompts; sizes, crops and aesthetic scores; the hand-over from SDXL base
to the refiner; latents as input; guidance-distilled U-Nets; `AutoencoderTiny`; codecs with mean and deviation;
`Engine.from_pipeline`; and the bytes of the decoded pictures.

{table}

## Where sdcore does something else, on purpose

| in diffusers | in sdcore | why |
|---|---|---|
| text beyond the window is cut off | filled into more windows; `long_prompt="cut"` does as diffusers does | nothing is lost without notice |
| a strength that leaves no step fails inside the scheduler (SD), or is an error (SDXL) | an error that names the smallest strength; strength 0 gives the codec's round trip | |
| `eta` is dropped by schedulers that have none | an error | a setting without effect is a mistake |
| spacing of LCM, TCD: taken and ignored | an error | the same |
| zero-SNR with a model that predicts noise: NaN, or noise | an error | there is no noise to predict at the start |
| leading, linspace or beta spacing with very many steps: IndexError or NaN | an error, or the right start | timesteps that repeat or pass the end |
| SDXL: the negative crop is (0, 0) or the positive one, depending on the class and on which sizes are given | the positive one, unless it is given; the refiner's is (0, 0) | one rule for every task |
| SDXL: `negative_original_size` counts only if `negative_target_size` is given too | each counts | the same |
| `clip_skip` with SD1, SD2: AttributeError with transformers 5 | works; compared with the attribute put back | |
| several pictures in one batch | one generator for each, so that picture i is what its seed gives alone | within float rounding; bit for bit with `batch_size=1` |
"""


def main() -> None:
    """Run the matrix and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the cells that the tests always run")
    parser.add_argument("--out", type=Path, help=f"the page to write (default, without --quick: {OUT.name})")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "__array", DeprecationWarning)

    import diffusers
    import torch
    import transformers
    from diffusers.utils import logging as diffusers_logging
    from parity.oracle import SCHEDULERS, chosen_cells, every_cell, tasks, variants
    from tqdm import tqdm
    from transformers.utils import logging as transformers_logging

    for quiet in (diffusers_logging, transformers_logging):
        quiet.set_verbosity_error()
        quiet.disable_progress_bar()
    cells = list(chosen_cells() if arguments.quick else every_cell())
    apart: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for cell in tqdm(cells, unit="cell", disable=None):
        apart[cell.model, cell.task, cell.scheduler].append(cell.run())
    every = [value for values in apart.values() for value in values]

    places = list(tasks())
    lines = ["| scheduler | " + " | ".join(f"{model} {task}" for model, task in places) + " |"]
    lines.append("|---|" + "---|" * len(places))
    for scheduler in [name for base in SCHEDULERS for name in _with_variants(base, variants())]:
        row = [_figure(apart.get((*place, scheduler))) for place in places]
        lines.append(f"| {scheduler} | " + " | ".join(row) + " |")
    page = TEXT.format(
        diffusers=diffusers.__version__,
        torch=torch.__version__.partition("+")[0],
        transformers=transformers.__version__,
        python=platform.python_version(),
        cells=len(every),
        zero="all" if not any(every) else sum(value == 0 for value in every),
        worst=f"; the largest difference in the others is {max(every):.1e}" if any(every) else "",
        command="python benchmarks/parity_table.py" + (" --quick" if arguments.quick else ""),
        table="\n".join(lines),
    )
    out = arguments.out or (None if arguments.quick else OUT)
    if out is None:
        print(page)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    print(f"{len(every)} cells, {sum(value == 0 for value in every)} of them the same bits; wrote {out.name}")


def _with_variants(base: str, names: list[str]) -> list[str]:
    from parity.oracle import SUFFIXES

    return [base, *(f"{base}-{suffix}" for suffix in SUFFIXES if f"{base}-{suffix}" in names)]


def _figure(values: list[float] | None) -> str:
    if not values:
        return "-"
    return "0" if max(values) == 0 else f"{max(values):.0e}"


if __name__ == "__main__":
    main()
