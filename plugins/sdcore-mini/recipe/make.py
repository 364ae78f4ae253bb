"""Make the embedded model from nothing: its data, its codec, then its text encoder and U-Net.

    python make.py {data,vae,model} [--preset cpu|gpu] [--resume] [--dry-run]

Runs the scripts beside this file in order, in the current folder, and leaves out what is already made. ``model`` needs
what ``vae`` makes, and that what ``data`` makes; several may be named at once. The preset gpu goes on from what the
preset cpu makes, and makes that first.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
THINGS = ("data", "vae", "model")
FEWER = ("batch_size=32", "steps=35952", "optimizer.learning_rate=5e-4")
TWO_CORES = ("device=cpu", "threads=1", "compile=null", "pictures.workers=0", *FEWER)
"""``longer-cpu.toml`` without an accelerator: as many pictures in smaller batches, at the rate of ``unet-cpu.toml``."""
TRY = {"build_data.py": ("--concepts", "40", "--pairs", "60", "--backgrounds", "1"), "train.py": ("--set", "steps=2")}


class Step(NamedTuple):
    """A command, and the file that is there once it is done."""

    makes: Path
    script: str
    arguments: tuple[str, ...]
    processes: int = 1

    def command(self, resume: bool = False, small: bool = False) -> list[str]:
        """What to run."""
        start = [sys.executable]
        if self.processes > 1:
            start += ["-m", "torch.distributed.run", "--nproc_per_node", str(self.processes)]
        more = TRY.get(self.script, ()) if small else ()
        return [*start, str(HERE / self.script), *self.arguments, *more, *(["--resume"] if resume else [])]

    def can_go_on(self, folder: Path) -> bool:
        """Whether a training has left checkpoints."""
        return self.script == "train.py" and any((folder / self.makes.parent.parent / "checkpoints").glob("step-*"))


def run(script: str, makes: str, arguments: str) -> Step:
    """A script."""
    return Step(Path(makes), script, tuple(arguments.split()))


def train(name: str, *fields: str, processes: int = 1) -> Step:
    """A training by a configuration beside this file, with some fields set."""
    output = tomllib.loads((HERE / name).read_text(encoding="utf-8"))["output"]
    more = [part for field in fields for part in ("--set", field)]
    return Step(Path(output, "model", "model_index.json"), "train.py", (str(HERE / name), *more), processes)


def steps(thing: str, preset: str, accelerator: bool = False, workers: int = 1) -> list[Step]:
    """What makes a thing, in order."""
    spread = f" --workers {workers}" if workers > 1 else ""
    data, tokenizer, vae = "runs/mini-data", "runs/mini-tokenizer", "runs/mini-sharp/model/vae"
    if thing == "data":
        found = [
            run("build_data.py", f"{data}/metadata.jsonl", f"--preset cpu --out {data}{spread}"),
            run("build_tokenizer.py", f"{tokenizer}/tokenizer_config.json", f"--data {data} --out {tokenizer}"),
        ]
    elif thing == "vae":
        blank = "runs/mini-blank"
        found = [
            run("build_model.py", f"{blank}/model_index.json", f"--tokenizer {tokenizer} --out {blank}"),
            *(train(f"{stage}-cpu.toml") for stage in ("vae", "decoder", "sharpen")),
        ]
    else:
        start, icons = "runs/mini-start", "runs/mini-icons.safetensors"
        found = [
            run("build_model.py", f"{start}/model_index.json", f"--tokenizer {tokenizer} --vae {vae} --out {start}"),
            run("icon_latents.py", icons, f"--data {data} --model {start} --out {icons}{spread}"),
            *(train(f"{stage}-cpu.toml") for stage in ("apart", "remember")),
            train("unet-cpu.toml", processes=2),
            train("longer-cpu.toml") if accelerator else train("longer-cpu.toml", *TWO_CORES, processes=2),
        ]
    if preset == "gpu":
        big, like = "runs/gpu-data", "runs/mini-longer/model"
        found += {
            "data": [run("build_data.py", f"{big}/metadata.jsonl", f"--preset gpu --out {big}{spread}")],
            "vae": [],  # that of the preset cpu has 29 dB on pictures of that size
            "model": [
                run(
                    "build_model.py",
                    "runs/gpu-start/model_index.json",
                    f"--preset gpu --like {like} --out runs/gpu-start",
                ),
                train("unet-gpu.toml"),
            ],
        }[thing]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("thing", nargs="+", choices=THINGS)
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="64x64 or 128x128 (default: cpu)")
    parser.add_argument("--accelerator", action="store_true", help="the U-Net's last stage there; preset gpu has one")
    parser.add_argument("--resume", action="store_true", help="trainings that were stopped go on from checkpoints")
    parser.add_argument("--dry-run", action="store_true", help="list the commands, run none")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw icons and pictures (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs/ is made (default: here)")
    parser.add_argument("--try", dest="small", action="store_true", help="few icons, two updates: does it all work?")
    args = parser.parse_args(argv)
    accelerator = args.accelerator or args.preset == "gpu"
    plan = {thing: steps(thing, args.preset, accelerator, args.workers) for thing in THINGS}
    for thing in [one for one in THINGS if one in args.thing]:
        before = THINGS[: THINGS.index(thing)]
        missing = [one for one in before if any(not (args.folder / step.makes).is_file() for step in plan[one])]
        if missing and not args.dry_run:
            parser.error(f"{thing} needs what {missing[0]!r} makes; run that first")
        for step in plan[thing]:
            resume = args.resume and step.can_go_on(args.folder)
            command = step.command(resume, args.small)
            if args.dry_run:
                print(shlex.join(command), flush=True)
                continue
            if (args.folder / step.makes).is_file():
                print(f"{step.makes} is there", flush=True)
                continue
            print(shlex.join(command), flush=True)
            args.folder.mkdir(parents=True, exist_ok=True)
            code = subprocess.run(command, cwd=args.folder, check=False).returncode
            if code:
                print(f"error: stopped with exit code {code}: {shlex.join(command)}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
