"""The plugin ``safety``: layers from the prompt to the picture, under one policy."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sdcore import (
    Access,
    Change,
    Conditioning,
    Contribution,
    Contributions,
    Plugin,
    Problem,
    Registry,
    Run,
    StateKey,
    Step,
    Verdict,
    hookimpl,
    ports,
)
from sdcore.stages import Picture, Prompt

from .audit.features import BUILT_IN as FEATURES
from .check import KIND, Check, ImageCheck
from .checks import BUILT_IN
from .options import Safety
from .session import Session, known_classes, threshold_problems

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .guidance import SafeGuidance
    from .previews import Previews

SESSION: StateKey[Session] = StateKey("safety session")
GUIDANCE: StateKey[Any] = StateKey("safe latent diffusion")
PREVIEWS: StateKey[Any] = StateKey("safety previews")


class SafetyPlugin(Plugin):
    """Judges prompts, predicted pictures and pictures, and draws away from unsafe concepts."""

    name = "safety"
    options = Safety
    access = Access(
        files=("read", "write"),
        weights=("safetensors", "onnx"),
        when="reads: files that options name; writes: sdcore safety, sdcore audit; onnx: open_nsfw",
    )

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._subspaces: Any = None

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the checks and the commands ``sdcore safety`` and ``sdcore audit``."""
        for name, home in BUILT_IN.items():
            registry.add(KIND, name, home)
        for name, home in FEATURES.items():
            registry.add("audit_features", name, home)
        registry.add("cli_command", "safety", fill_safety)
        registry.add("cli_command", "audit", fill_audit)

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        """Refuse unknown checks, thresholds of nothing and two policies in one run; forbid previews where asked."""
        found: list[Problem | Change] = []
        given = run.uses(Safety)
        if len(given) != 1:
            return [Problem(f"safety is given {len(given)} times; give one Safety(...)")]
        known = run.registry.all(KIND)
        missing = [name for name in given[0].names if name not in known]
        if missing:
            found.append(Problem(f"there is no safety check {missing[0]!r}; there are {', '.join(known)}"))
        found += [Problem(problem) for problem in threshold_problems(given[0], run.registry)]
        looks = any(issubclass(kind, ImageCheck) for kind in known_classes(given[0].names, run.registry).values())
        if looks and run.request.output == "latent" and run.outer is None:
            run.warn("output is 'latent': safety judges the prompt and the predicted picture, not what will be decoded")
        if given[0].previews == "off":
            found.append(Change(previews=False))
        steps = run.request.steps or 0
        if given[0].sld != "off" and run.outer is None:
            warmup = _guidance(run).warmup
            if warmup >= steps:
                run.warn(f"SLD {given[0].sld!r} acts from step {warmup + 1} on, and there are {steps}: it does nothing")
        return found

    @hookimpl
    def text(self, run: Run) -> Contributions:
        """Contribute to the port ``conditioning``: the concept's branch, and the projection."""
        options = options_of(run)
        found: list[Contribution] = []
        if options.sld != "off":
            found.append(ports.conditioning(_guidance(run).conditioning))
        if options.projection:

            def projected(conditioning: Mapping[str, Conditioning]) -> Mapping[str, Conditioning]:
                return self._project(run, conditioning, options.projection)

            found.append(ports.conditioning(projected))
        return found

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Contribute SLD's branches and term, and the coarse previews."""
        options = options_of(run)
        found: list[Contribution] = []
        if options.sld != "off":
            guidance = _guidance(run)
            found += [ports.branches(guidance.branches), ports.guidance_terms(guidance.term)]
        if options.previews == "coarse":
            found.append(self._previews(run).contribution())
        return found

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        """Judge the prompt, the predicted picture, and what leaves."""
        session = self._session(run)

        def prompt(prompt: Prompt) -> Verdict | None:
            return session.judge_prompt(prompt.positive)

        def preview(step: Step, x0: Tensor) -> Iterable[Verdict | None] | None:
            return self._previews(run).judge(step, x0)

        def image(picture: Picture, image: Image) -> Verdict | None:
            return session.judge_image(picture.index, image)

        found: list[Contribution] = [ports.judge_prompt(prompt), ports.judge_image(image)]
        if options_of(run).early is not None:
            found.append(ports.judge_preview(preview))
        return found

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        """Contribute to the port ``image``, phase ``safety``: what trips is blurred, where that is the action."""
        session = self._session(run)
        if session.policy.action != "blur":
            return None

        def blur(picture: Picture, image: Image) -> Image | None:
            from .coarse import blurred

            session.judge_image(picture.index, image)
            if not session.to_blur(picture.index):
                return None
            made = blurred(image)
            session.remember_blurred(picture.index, made)
            return made

        return ports.image(blur, phase="safety")

    @hookimpl
    def output(self, run: Run) -> Contributions:
        """Contribute the report to the metadata of every picture that leaves."""
        session = self._session(run)

        def report(picture: Picture) -> Mapping[str, Any]:
            made = session.report(picture.index)
            found: dict[str, Any] = {"report": made.to_dict(), "report_sha256": made.sha256}
            if made.overrides:
                found["overrides"] = found["report"]["overrides"]
            return found

        return ports.metadata(report)

    # -- pieces -----------------------------------------------------------------------------------------

    def _session(self, run: Run) -> Session:
        """The session of the whole run; passes share it."""
        outer = run
        while outer.outer is not None:
            outer = outer.outer
        options = options_of(run)
        guidance: dict[str, Any] = {"sld": options.sld, "projection": options.projection}
        if options.sld != "off" and options.sld_concept.strip():
            guidance["sld_concept"] = options.sld_concept.strip()
        return outer.state.make(SESSION, lambda: Session(options, run.registry, run.model, self._checks, guidance))

    def _previews(self, run: Run) -> Previews:
        from .previews import Previews

        found: Previews = run.state.make(PREVIEWS, lambda: Previews(run, self._session(run)))
        return found

    def _project(self, run: Run, conditioning: Mapping[str, Conditioning], amount: float) -> Mapping[str, Conditioning]:
        from .projection import project, subspaces_of

        if self._subspaces is None:
            self._subspaces = subspaces_of(run)
        found, changed = project(conditioning, self._subspaces, amount)
        self._session(run).guidance["projected_vectors"] = changed
        return found


def options_of(run: Run) -> Safety:
    """The options; ``plan`` has refused a request that has them twice."""
    return run.uses(Safety)[0]


def _guidance(run: Run) -> SafeGuidance:
    from .guidance import SafeGuidance

    found: SafeGuidance = run.state.make(GUIDANCE, lambda: SafeGuidance(run, options_of(run)))
    return found


def fill_safety(parser: argparse.ArgumentParser) -> None:
    """Judge pictures, measure checks on a labelled set, explain a policy."""
    from .commands import fill

    fill(parser)


def fill_audit(parser: argparse.ArgumentParser) -> None:
    """Compare what a model draws for groups: diversity, skew, and how often checks flag it."""
    from .audit.commands import fill

    fill(parser)
