"""Judging: the verdicts of safety checks. A check that fails is the most severe verdict: nothing is let through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .calling import is_out_of_memory
from .errors import Cancelled, Withheld
from .order import Stage
from .stages import SEVERITIES, Prompt, Step, Verdict

if TYPE_CHECKING:
    from torch import Tensor


def judged(stage: Stage, *args: Any) -> list[Verdict]:
    """What one check says, unless it allows; a check that raises gives the most severe verdict."""
    try:
        return _told(stage.fn(*args))
    except Exception as error:  # noqa: BLE001 - a check that fails is the most severe verdict
        return [_failed(stage, error)]


def judge_prompt(stages: Iterable[Stage], prompt: Prompt, verdicts: Sequence[list[Verdict]]) -> None:
    """Add what checks say of a prompt to every picture of a batch.

    Args:
        stages: of the port ``judge_prompt``.
        prompt: what the user wrote, or what plugins made of it.
        verdicts: one list a picture, added to.

    Raises:
        Withheld: the prompt must not be drawn.
    """
    found = [verdict for stage in stages for verdict in judged(stage, prompt)]
    if withheld(found):
        raise withhold(found)
    for picture in verdicts:
        picture.extend(verdict for verdict in found if verdict not in picture)


def judge_preview(stages: Iterable[Stage], step: Step, x0: Tensor, verdicts: Sequence[list[Verdict]]) -> None:
    """Add what checks say of the predicted pictures.

    Args:
        stages: of the port ``judge_preview``.
        step: the step that predicted them.
        x0: (batch, channels, height, width) in latent space.
        verdicts: one list a picture, added to.

    Raises:
        Withheld: every picture of the batch is kept back, so the rest of the steps need not be computed.
    """
    for stage in stages:
        try:
            given = stage.fn(step, x0)
            found = [None] * len(verdicts) if given is None else list(given)
            if len(found) != len(verdicts):
                raise ValueError(f"it gave {len(found)} verdicts for {len(verdicts)} pictures")
            told = [_told(verdict) for verdict in found]
        except Exception as error:  # noqa: BLE001 - a check that fails is the most severe verdict
            told = [[_failed(stage, error)]] * len(verdicts)
        for picture, new in zip(verdicts, told, strict=True):
            # A check says the same in many steps: once is enough.
            picture.extend(verdict for verdict in new if verdict not in picture)
    if all(withheld(picture) for picture in verdicts):
        raise withhold([verdict for picture in verdicts for verdict in picture])


def _told(verdict: Any) -> list[Verdict]:
    if verdict is not None and not isinstance(verdict, Verdict):
        raise TypeError(f"it returned {type(verdict).__name__}, expected Verdict or None")
    return [] if verdict is None or verdict.severity == "allow" else [verdict]


def _failed(stage: Stage, error: Exception) -> Verdict:
    """The verdict for a check that raised. Cancelling and a lack of memory are no verdicts: they are raised."""
    if isinstance(error, Cancelled) or is_out_of_memory(error):
        raise error
    reason = f"check of {stage.plugin} ({stage.version}) failed: {type(error).__name__}: {error}"
    return Verdict("error", reason, stage.plugin)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The most severe verdict, or None."""
    return max(verdicts, key=lambda verdict: SEVERITIES.index(verdict.severity), default=None)


def withheld(verdicts: Iterable[Verdict]) -> bool:
    """Whether the picture that these verdicts are about must not leave."""
    return any(verdict.withholds for verdict in verdicts)


def by_severity(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The most severe first."""
    return tuple(sorted(verdicts, key=lambda verdict: -SEVERITIES.index(verdict.severity)))


def withhold(verdicts: Iterable[Verdict]) -> Withheld:
    """The error for a run of which nothing may leave."""
    ordered = by_severity(verdicts)
    return Withheld(f"nothing was returned: {ordered[0].reason or ordered[0].check or ordered[0].severity}", ordered)
