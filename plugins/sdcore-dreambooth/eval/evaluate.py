"""Measure DreamBooth on the held-out icons.

    python evaluate.py                    # all twelve subjects, four ways each
    python evaluate.py --subjects 2       # for trying

What is printed last is one JSON line. With ``--docs`` the table goes into docs/dreambooth.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dreambooth_eval import measures, prompts, results, settings
from dreambooth_eval.judge import Judge, train_judge
from dreambooth_eval.learning import learn, write_data
from dreambooth_eval.renders import Icon, load_icons, nearest_colour, new_backgrounds, recipe, render, subject_pictures

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore import Engine

ROWS = 4
"""Subjects on the sheet."""
ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """The command."""
    args = _arguments()
    from sdcore import Engine

    args.work.mkdir(parents=True, exist_ok=True)
    base = Engine.load(args.model, plugins=[])
    size = base.model.unet.config.sample_size * base.model.vae_scale_factor
    subjects, others = load_icons(200, args.styles, settings.SEED)
    judge = train_judge(
        [*subjects, *others],
        _codec(base, size),
        args.work / "judge",
        base.model.hashes()["vae"],
        settings.SEED,
        len(subjects),
    )
    print(f"judge: {judge.accuracy}", file=sys.stderr)
    plans = [replace(plan, steps=args.steps or plan.steps) for plan in settings.PLANS if plan.mode in args.modes]
    found: list[results.Found] = []
    bases: list[dict[str, float]] = []
    rows: list[list[Image]] = []
    for subject in subjects[:: max(1, len(subjects) // args.subjects)][: args.subjects]:
        one = Evaluation(args, base, judge, subject, size)
        bases.append(one.before())
        row = [*one.pictures[:3], one.base_pictures[-1]]
        classes = [one.class_pictures]
        for plan in plans:
            found.append(one.after(plan))
            if plan.prior:
                row += [one.drawn[0], one.drawn[-1]]
            if plan.mode == plans[0].mode:
                classes.append(one.class_pictures)
            print(json.dumps(results.asdict(found[-1])), file=sys.stderr)
            results.save(args.work / "results.json", found, bases)
        rows.append(row + [pictures[0] for pictures in classes])
        results.sheet(_header(plans), rows[:ROWS], 96, args.sheet)
    means = {name: sum(one[name] for one in bases) / len(bases) for name in bases[0]}
    if args.docs:
        results.write_table(args.docs, results.table(found, means))
    print(json.dumps(results.summary(found, means, judge.accuracy, args.model or base.model.source)))
    return 0


class Evaluation:
    """One subject: pictures, what the untrained model makes of the prompts, and what it makes of them afterwards."""

    def __init__(self, args: argparse.Namespace, base: Engine, judge: Judge, subject: Icon, size: int) -> None:
        self._args, self._base, self._judge, self._subject, self._size = args, base, judge, subject, size
        self._style: str = args.styles[0]
        self._words: dict[str, str] = dict(zip(args.styles, args.style_words, strict=True))
        colours = list(recipe().pictures.colours())
        words = args.style_words
        self._trained_class = prompts.trained_class_prompts(words, colours)
        self._drift_class = prompts.drift_class_prompts(words, colours)
        shown = subject_pictures(subject, self._style, size, settings.PICTURES)
        self.pictures = [picture for picture, _ in shown]
        self._features = judge.look(self.pictures)[0]
        self._data = write_data(args.work / "data" / subject.name.replace(" ", "-"), shown, self._words[self._style])
        self._colours = new_backgrounds(subject, self._style)
        self.base_pictures: list[Image] = []
        self.drawn: list[Image] = []
        self.class_pictures: list[Image] = []

    def before(self) -> dict[str, float]:
        """What the model makes of the prompts before, and how similar renderings of the subject are."""
        self.base_pictures, _ = self._draw_subject(self._base, [])
        features, things, _ = self._judge.look(self.base_pictures)
        again = [
            render(self._subject.icons[self._style], self._style, colour, self._size, 5, 0.8)
            for colour in self._colours
        ]
        self._class_before = self._draw_class(self._base, [])
        return {
            "fidelity": measures.fidelity(features, self._features),
            "recognised": measures.share(things, self._subject.name),
            "ceiling": measures.fidelity(self._judge.look(again)[0], self._features),
            "taken": measures.share(self._class_before[1], self._subject.name),
            "drift": 0.0,
        }

    def after(self, plan: settings.Plan) -> results.Found:
        """Learn the subject, and measure."""
        work = self._args.work / "learnt"
        name = self._args.model
        engine, use, untouched, seconds = learn(
            name, self._data, self._subject.kind, self._trained_class, plan, work, self._size
        )
        self.drawn, asked = self._draw_subject(engine, use)
        features, things, _ = self._judge.look(self.drawn)
        styled = self._draw_styles(engine, use)
        class_after = self._draw_class(engine, use)
        return results.Found(
            subject=self._subject.name,
            plan=plan.name,
            fidelity=measures.fidelity(features, self._features),
            recognised=measures.share(things, self._subject.name),
            background=measures.share([nearest_colour(picture) for picture in self.drawn], asked),
            style=measures.share(self._judge.look([picture for picture, _ in styled])[2], [s for _, s in styled]),
            drift=measures.drift(self._class_before[0], class_after[0]),
            taken=measures.share(class_after[1], self._subject.name),
            untouched=untouched,
            seconds=round(seconds, 1),
        )

    def _filled(self, template: str) -> str:
        return template.replace("[token]", settings.TOKEN).replace("[class]", self._subject.kind)

    def _draw(self, engine: Engine, use: list[str], prompt: str, seeds: list[int]) -> list[Image]:
        return engine.generate(
            self._filled(prompt), seeds=seeds, steps=settings.DRAWN_STEPS, batch_size=len(seeds), use=use
        ).images

    def _draw_subject(self, engine: Engine, use: list[str]) -> tuple[list[Image], list[str]]:
        """The subject on new backgrounds, with the colours that were asked for."""
        drawn, asked = [], []
        for number, colour in enumerate(self._colours):
            seeds = [100 * number + i for i in range(settings.SEEDS_OF_SUBJECT)]
            drawn += self._draw(engine, use, prompts.template(self._words[self._style], colour), seeds)
            asked += [colour] * len(seeds)
        return drawn, asked

    def _draw_styles(self, engine: Engine, use: list[str]) -> list[tuple[Image, str]]:
        """The subject in other styles than that of its pictures."""
        return [
            (picture, style)
            for style, word in self._words.items()
            if style != self._style
            for picture in self._draw(engine, use, prompts.template(word, "white"), [1, 2])
        ]

    def _draw_class(self, engine: Engine, use: list[str]) -> tuple[Tensor, list[str]]:
        """Features of class pictures, and what the judge sees in them."""
        pictures = []
        for number, prompt in enumerate(self._drift_class):
            seeds = [settings.DRIFT_SEED + 10 * number + i for i in range(settings.SEEDS_OF_CLASS)]
            pictures += self._draw(engine, use, prompt, seeds)
        features, things, _ = self._judge.look(pictures)
        self.class_pictures = pictures
        return features, things


def _header(plans: list[settings.Plan]) -> list[str]:
    """Names of the sheet's columns."""
    names = ["pictures", "", "", "before"]
    for plan in plans:
        names += [f"{plan.mode}, with prior", ""] if plan.prior else []
    after = [f"{'with' if plan.prior else 'no'} prior" for plan in plans if plan.mode == plans[0].mode]
    return [*names, "class before", *after]


def _codec(base: Engine, size: int) -> Any:
    import torch
    from torch.nn import functional as F

    vae: Any = base.model.vae

    def through(pictures: Tensor) -> Tensor:
        side = pictures.shape[-1]
        with torch.inference_mode():
            large = (
                F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
                if size != side
                else pictures
            )
            again = vae.decode(vae.encode(large * 2 - 1).latent_dist.mean).sample / 2 + 0.5
            return F.interpolate(again, size=(side, side), mode="area") if size != side else again

    return through


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="as for sdcore: None is the installed one")
    parser.add_argument("--subjects", type=int, default=12, help="how many of the twelve")
    parser.add_argument("--modes", default="full,lora", type=lambda text: text.split(","), help="full,lora")
    parser.add_argument("--styles", default="flat,noto,gradient", type=lambda text: text.split(","), help="of icons: first that of the subjects, then others")  # fmt: skip # noqa: E501
    parser.add_argument("--style-words", type=lambda text: text.split(","), help="what prompts call them, if otherwise")
    parser.add_argument("--steps", type=int, help="of each training, instead of the fixed settings")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "dreambooth", help="folder for everything")
    parser.add_argument("--sheet", type=Path, help="where the sheet of pictures goes")
    parser.add_argument("--docs", type=Path, help="page to put the table into")
    args = parser.parse_args()
    args.style_words = args.style_words or args.styles
    args.sheet = args.sheet or args.work / "sheet.png"
    if len(args.style_words) != len(args.styles):
        parser.error(f"--styles has {len(args.styles)} and --style-words {len(args.style_words)}; give as many")
    return args


if __name__ == "__main__":
    sys.exit(main())
