"""Guard: a check's answer, or :class:`SafetyUnavailable`. There is no third way out."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sdcore.calling import is_out_of_memory
from sdcore.errors import Cancelled

from .errors import SafetyUnavailable

if TYPE_CHECKING:
    from PIL.Image import Image

    from .check import ImageCheck, PromptCheck

T = TypeVar("T")


def guarded(check: str, work: Callable[[], T], timeout: float | None) -> T:
    """What ``work`` returns, computed without gradients in a thread of its own.

    Args:
        check: name of the check, for the error.
        work: what to do.
        timeout: seconds to wait; None waits for ever. A thread cannot be stopped: one that is late ends by itself.

    Raises:
        SafetyUnavailable: it raised, or did not answer in time. Cancelling and a lack of memory are raised as they are.
    """
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            import torch

            with torch.no_grad():
                answers.put((True, work()))
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            answers.put((False, error))

    threading.Thread(target=run, name=f"safety check {check}", daemon=True).start()
    try:
        fine, answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise SafetyUnavailable(check, f"no answer within {timeout:g} seconds") from None
    if fine:
        found: T = answer
        return found
    if isinstance(answer, Cancelled | KeyboardInterrupt) or is_out_of_memory(answer):
        raise answer
    if isinstance(answer, SafetyUnavailable):
        raise answer
    raise SafetyUnavailable(check, f"{type(answer).__name__}: {answer}") from answer


def checked_scores(check: str, scores: Any) -> dict[str, float]:
    """Scores that are numbers from 0 to 1.

    Raises:
        SafetyUnavailable: they are not; NaN above all, which every comparison would let through.
    """
    if not isinstance(scores, Mapping):
        raise SafetyUnavailable(check, f"it returned {type(scores).__name__}, expected a mapping of category to score")
    found = {}
    for category, score in scores.items():
        try:
            value = float(score)
        except (TypeError, ValueError):
            raise SafetyUnavailable(check, f"the score of {category!r} is {score!r}, not a number") from None
        if not math.isfinite(value) or not -1e-6 <= value <= 1 + 1e-6:
            raise SafetyUnavailable(check, f"the score of {category!r} is {value}, expected 0 to 1")
        found[str(category)] = min(max(value, 0.0), 1.0)
    return found


def prompt_scores(check: PromptCheck, text: str, timeout: float) -> dict[str, float]:
    """What a check says of a text.

    Raises:
        SafetyUnavailable: nothing that can be used.
    """
    return checked_scores(check.name, guarded(check.name, lambda: check.score(text), timeout))


def image_scores(
    check: ImageCheck, images: Sequence[Image], timeout: float
) -> list[dict[str, float] | SafetyUnavailable]:
    """What a check says of pictures: for each its scores, or why there are none."""
    try:
        many = guarded(check.name, lambda: list(check.score_many(images)), timeout)
        if len(many) != len(images):
            raise SafetyUnavailable(check.name, f"it gave {len(many)} scores for {len(images)} pictures")
    except SafetyUnavailable as error:
        return [error] * len(images)
    found: list[dict[str, float] | SafetyUnavailable] = []
    for scores in many:
        try:
            found.append(checked_scores(check.name, scores))
        except SafetyUnavailable as error:
            found.append(error)
    return found
