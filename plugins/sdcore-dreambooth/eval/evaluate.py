"""Measure DreamBooth on the held-out icons.

    python evaluate.py                    # all twelve subjects, four ways each
    python evaluate.py --subjects 2       # for trying

The table is printed, and last one JSON line. With ``--docs docs/dreambooth.md`` the table goes into that page too.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dreambooth_eval import measures, prompts, results, settings
from dreambooth_eval.judge import Judge, train_judge
from dreambooth_eval.kept import Kept, digest_of_code
from dreambooth_eval.learning import learn, write_data
from dreambooth_eval.renders import Icon, load_icons, nearest_colour, new_backgrounds, recipe, render, subject_pictures

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore import Engine

ROWS = 4
"""Subjects on the sheet."""
CODE = ("sdcore", "sdcore_train", "sdcore_lora", "sdcore_dreambooth")
"""Packages that decide what is measured."""
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
    code = digest_of_code([Path(__file__).parent, *(Path(find_spec(name).origin).parent for name in CODE)])
    facts = [settings.facts(), args.styles, args.style_words, base.model.hashes(), judge.accuracy, code]
    kept = Kept(args.work / "measured", facts)
    for subject in subjects[:: max(1, len(subjects) // args.subjects)][: args.subjects]:
        one = Evaluation(args, base, judge, subject, size, kept)
        numbers, row = one.before()
        bases.append(numbers)
        classes = [row.pop()]
        for plan in plans:
            measured, (first, last, of_class) = one.after(plan)
            found.append(measured)
            row += [first, last] if plan.prior else []
            classes += [of_class] if plan.mode == plans[0].mode else []
            print(json.dumps(asdict(measured)), file=sys.stderr)
        rows.append(row + classes)
        results.sheet(_header(plans), rows[:ROWS], 96, args.sheet)
    means = {name: sum(one[name] for one in bases) / len(bases) for name in bases[0]}
    text = f"{results.learnt(plans)}\n\n{results.table(found, means)}"
    results.tell(text, results.summary(found, means, judge.accuracy, args.model or base.model.source), args.docs)
    return 0


class Evaluation:
    """One subject: pictures, what the untrained model makes of the prompts, and what it makes of them afterwards."""

    def __init__(
        self, args: argparse.Namespace, base: Engine, judge: Judge, subject: Icon, size: int, kept: Kept
    ) -> None:
        self._args, self._base, self._judge, self._subject, self._size = args, base, judge, subject, size
        self._kept = kept
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
        self._class_before: tuple[Tensor, list[str], list[Image]] | None = None

    def before(self) -> tuple[dict[str, float], list[Image]]:
        """What the model makes of the prompts before, and how similar new renderings of the subject are.

        With pictures for the sheet: three of the subject's, one drawn, one of the class.
        """
        known = self._kept.get(self._subject.name)
        if known is not None:
            return known
        drawn, _ = self._draw_subject(self._base, [])
        features, things, _ = self._judge.look(drawn)
        again = [
            render(self._subject.icons[self._style], self._style, colour, self._size, 5, 0.8)
            for colour in self._colours
        ]
        _, class_things, class_pictures = self._before()
        numbers = {
            "fidelity": measures.fidelity(features, self._features),
            "recognised": measures.share(things, self._subject.name),
            "ceiling": measures.fidelity(self._judge.look(again)[0], self._features),
            "taken": measures.share(class_things, self._subject.name),
            "drift": 0.0,
        }
        pictures = [*self.pictures[:3], drawn[-1], class_pictures[0]]
        self._kept.put(self._subject.name, numbers, pictures)
        return numbers, pictures

    def after(self, plan: settings.Plan) -> tuple[results.Found, list[Image]]:
        """Learn the subject, and measure. With pictures for the sheet: two of the subject, one of the class."""
        name = f"{self._subject.name} {plan.name} {plan.steps} {plan.rate:g}"
        known = self._kept.get(name)
        if known is not None:
            return results.Found(**known[0]), known[1]
        work = self._args.work / "learnt"
        engine, use, untouched, seconds = learn(
            self._args.model, self._data, self._subject.kind, self._trained_class, plan, work, self._size
        )
        drawn, asked = self._draw_subject(engine, use)
        features, things, _ = self._judge.look(drawn)
        styled = self._draw_styles(engine, use)
        class_features, class_things, class_pictures = self._draw_class(engine, use)
        found = results.Found(
            subject=self._subject.name,
            plan=plan.name,
            fidelity=measures.fidelity(features, self._features),
            recognised=measures.share(things, self._subject.name),
            background=measures.share([nearest_colour(picture) for picture in drawn], asked),
            style=measures.share(self._judge.look([picture for picture, _ in styled])[2], [s for _, s in styled]),
            drift=measures.drift(self._before()[0], class_features),
            taken=measures.share(class_things, self._subject.name),
            untouched=untouched,
            seconds=round(seconds, 1),
        )
        pictures = [drawn[0], drawn[-1], class_pictures[0]]
        self._kept.put(name, asdict(found), pictures)
        return found, pictures

    def _before(self) -> tuple[Tensor, list[str], list[Image]]:
        if self._class_before is None:
            self._class_before = self._draw_class(self._base, [])
        return self._class_before

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

    def _draw_class(self, engine: Engine, use: list[str]) -> tuple[Tensor, list[str], list[Image]]:
        """Features of class pictures, what the judge sees in them, and the pictures."""
        pictures = []
        for number, prompt in enumerate(self._drift_class):
            seeds = [settings.DRIFT_SEED + 10 * number + i for i in range(settings.SEEDS_OF_CLASS)]
            pictures += self._draw(engine, use, prompt, seeds)
        features, things, _ = self._judge.look(pictures)
        return features, things, pictures


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
