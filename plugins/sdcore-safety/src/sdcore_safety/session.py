"""Session: the checks of one run and what they found, from the prompt to what leaves."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sdcore import Registry, Verdict
from sdcore.files import sha256_file
from sdcore.plugin import nearest

from .check import KIND, Check, CheckSettings, ImageCheck, PromptCheck, Stage, check_class
from .errors import SafetyUnavailable
from .guard import guarded, image_scores, prompt_scores
from .policy import CATEGORIES
from .report import Failure, Finding, Outcome, Override, SafetyReport, findings_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.models import Model

    from .options import Safety

Cache = dict[str, Check]
_PROMPT = -1
"""Stands for the place of what is known before there are pictures, and belongs to all of them."""


class Session:
    """What one run's checks say.

    Args:
        options: the options.
        registry: where the checks are.
        model: the engine's model, or None.
        cache: checks that were made before with the same settings; added to.
        guidance: what acts on the drawing, for the report.
    """

    def __init__(
        self, options: Safety, registry: Registry, model: Model | None, cache: Cache, guidance: Mapping[str, Any]
    ) -> None:
        self.options, self.policy = options, options.policy
        self.guidance = dict(guidance)
        self._registry, self._model, self._cache = registry, model, cache
        self._checks: list[Check | SafetyUnavailable] | None = None
        self._findings: dict[int, list[Finding]] = {}
        self._failures: dict[int, list[Failure]] = {}
        self._texts: set[str] = set()
        self._judged: dict[int, str] = {}
        self.blurred: dict[int, str] = {}

    # -- checks -----------------------------------------------------------------------------------------

    @property
    def checks(self) -> list[Check | SafetyUnavailable]:
        """The checks, made when first asked for; what is wrong stands for one that cannot be made."""
        if self._checks is None:
            self._checks = [self._make(name) for name in self.options.names]
        return self._checks

    def _make(self, name: str) -> Check | SafetyUnavailable:
        values = self.options.check_values(name)
        key = f"{name}\0{values!r}\0{_stamp(values.get('path'))}"
        if key not in self._cache:
            settings = CheckSettings(self._model, values)

            def make() -> Check:
                return check_class(self._registry.get(KIND, name))(settings)

            try:
                self._cache[key] = guarded(name, make, None)
            except SafetyUnavailable as error:
                return error
        return self._cache[key]

    # -- judging ----------------------------------------------------------------------------------------

    def judge_prompt(self, text: str) -> Verdict | None:
        """Judge what is to be drawn. Checks that cannot be made are told here, before anything is computed."""
        broken = [check for check in self.checks if isinstance(check, SafetyUnavailable)]
        self._failed(_PROMPT, [Failure("prompt", error.check, error.problem) for error in broken])
        for check in self.checks:
            if isinstance(check, PromptCheck) and text not in self._texts:
                try:
                    scores = prompt_scores(check, text, self.options.timeout)
                    self._findings.setdefault(_PROMPT, []).extend(findings_of(check, "prompt", scores, self.policy))
                except SafetyUnavailable as error:
                    self._failed(_PROMPT, [Failure("prompt", check.name, error.problem)])
        self._texts.add(text)
        return self._verdict(_PROMPT, "prompt")

    def judge_previews(self, images: Mapping[int, Image]) -> dict[int, Verdict | None]:
        """Judge predicted pictures, by their place in the request."""
        self._look("preview", images, [c for c in self._image_checks if c.early])
        return {index: self._verdict(index, "preview") for index in images}

    def judge_image(self, index: int, image: Image) -> Verdict | None:
        """Judge a picture that is to leave; the same pixels are looked at once."""
        digest = _pixels(image)
        if self.blurred.get(index) == digest:
            return self._verdict(index, "image", blurred=True)
        if self._judged.get(index) != digest:
            self._findings[index] = [f for f in self._findings.get(index, []) if f.stage != "image"]
            self._failures[index] = [f for f in self._failures.get(index, []) if f.stage != "image"]
            self._look("image", {index: image}, self._image_checks)
            self._judged[index] = digest
        return self._verdict(index, "image")

    def to_blur(self, index: int) -> bool:
        """Whether a picture that was judged must be made unrecognisable."""
        return self.policy.action == "blur" and any(finding.tripped for finding in self._of(index, self._findings))

    def remember_blurred(self, index: int, image: Image) -> None:
        """What leaves in place of a picture that tripped."""
        self.blurred[index] = _pixels(image)

    @property
    def _image_checks(self) -> list[ImageCheck]:
        return [check for check in self.checks if isinstance(check, ImageCheck)]

    @property
    def looks_early(self) -> bool:
        """Whether any check can judge predicted pictures."""
        return self.options.early is not None and any(check.early for check in self._image_checks)

    def _look(self, stage: Stage, images: Mapping[int, Image], checks: Sequence[ImageCheck]) -> None:
        for check in checks:
            many = image_scores(check, list(images.values()), self.options.timeout)
            for index, scores in zip(images, many, strict=True):
                if isinstance(scores, SafetyUnavailable):
                    self._failed(index, [Failure(stage, check.name, scores.problem)])
                else:
                    self._findings.setdefault(index, []).extend(findings_of(check, stage, scores, self.policy))

    def _failed(self, index: int, failures: Sequence[Failure]) -> None:
        known = self._failures.setdefault(index, [])
        known.extend(failure for failure in failures if failure not in known)

    def _of(self, index: int, where: Mapping[int, list[Any]]) -> list[Any]:
        own = where.get(index, []) if index != _PROMPT else []
        return [*where.get(_PROMPT, []), *own]

    def _verdict(self, index: int, stage: Stage, blurred: bool = False) -> Verdict | None:
        report = self.report(index, blurred=blurred, stage=stage)
        if report.outcome == "allow":
            return None
        severity: Any = {"blur": "flag"}.get(report.outcome, report.outcome)
        details = {"report": report.to_dict(), "report_sha256": report.sha256}
        names = [f.check for f in report.tripped]
        names += [f.check for f in report.failures] + [o.check for o in report.overrides]
        return Verdict(severity, _reason(report), names[0], details)

    # -- the report -------------------------------------------------------------------------------------

    def report(self, index: int, *, blurred: bool | None = None, stage: Stage = "image") -> SafetyReport:
        """What is known of one picture. ``stage`` is how far the run has come."""
        findings: list[Finding] = self._of(index, self._findings)
        failures: list[Failure] = self._of(index, self._failures)
        overrides: list[Override] = []
        if self.options.on_error == "allow":
            reason = self.options.override_reason.strip()
            overrides = [Override(f.stage, f.check, f.problem, reason) for f in failures]
            failures = []
        blurred = index in self.blurred if blurred is None else blurred
        outcome: Outcome = "allow"
        if failures:
            outcome = "error"
        elif any(finding.tripped for finding in findings):
            if self.policy.action == "blur":
                # Before the picture is there nothing can be blurred; once it is, it leaves blurred or not at all.
                outcome = "blur" if blurred else "withhold" if stage == "image" else "flag"
            else:
                outcome = "withhold" if self.policy.action == "block" else "flag"
        elif overrides:
            outcome = "flag"
        return SafetyReport(
            outcome, self._policy_values(), tuple(findings), tuple(failures), tuple(overrides), self.guidance
        )

    def _policy_values(self) -> dict[str, Any]:
        return {
            **asdict(self.policy),
            "checks": list(self.options.names),
            "early": self.options.early,
            "on_error": self.options.on_error,
            "override_reason": self.options.override_reason.strip() or None,
        }


def known_classes(names: Iterable[str], registry: Registry) -> dict[str, type[Check]]:
    """The classes of checks, without those that there are not: these withhold when they are asked, and say why."""
    found = {}
    for name in names:
        with contextlib.suppress(Exception):
            found[name] = check_class(registry.get(KIND, name))
    return found


def threshold_problems(options: Safety, registry: Registry) -> list[str]:
    """Thresholds that no score would ever be compared with: misspelt, most likely, and a policy with a hole."""
    judged = set(CATEGORIES)
    for name, kind in known_classes(options.names, registry).items():
        judged |= {*kind.categories, *(f"{name}:{category}" for category in kind.categories)}
    unknown = [key for key in options.thresholds if key not in judged]
    return [
        f"safety has a threshold for {key!r}, which none of its checks judges.{nearest(key, judged)}" for key in unknown
    ]


def _reason(report: SafetyReport) -> str:
    if report.failures:
        return "; ".join(f"check {f.check!r} failed ({f.stage}): {f.problem}" for f in report.failures)
    if report.tripped:
        worst = max(report.tripped, key=lambda finding: -(finding.margin or 0.0))
        what = f"{worst.category} in the {worst.stage}: {worst.check} gives {worst.score:.3f}"
        return f"{what}, from {worst.threshold:g} on it is {'blurred' if report.outcome == 'blur' else 'too much'}"
    first = report.overrides[0]
    return f"check {first.check!r} failed ({first.stage}) and was overridden: {first.reason}"


def _pixels(image: Image) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


def _stamp(path: Any) -> str:
    """What changes when a file does, so that a check is made anew."""
    try:
        return "" if not path else sha256_file(path)
    except OSError:
        return "-"
