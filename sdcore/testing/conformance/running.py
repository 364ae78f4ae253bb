"""Carrying checks out: in order, on one thread of torch, with what they rest on first."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .catalogue import Check, checks
from .outcome import Failed, NotApplicable, Outcome, Report
from .subject import Subject, Trial


def run_all(subject: Subject, watch: Callable[[Outcome], object] | None = None) -> Report:
    """Every check of the subject's tier.

    Args:
        subject: what is checked.
        watch: told of every outcome.
    """
    outcomes = []
    for check in checks().values():
        if subject.tier in check.tiers:
            outcomes.append(run_check(subject, check))
            if watch is not None:
                watch(outcomes[-1])
    return Report(subject.name, subject.found.label, subject.tier, tuple(outcomes))


def run_check(subject: Subject, check: Check) -> Outcome:
    """One check, and before it those that it needs; each is carried out once for a subject."""
    if check.name not in subject.outcomes:
        blocked = _blocked(subject, check)
        begun = time.perf_counter()
        outcome = blocked or _carry_out(subject, check)
        outcome = _excepted(subject, outcome)
        taken = 0.0 if blocked else time.perf_counter() - begun
        subject.outcomes[check.name] = Outcome(outcome.check, outcome.state, outcome.detail, round(taken, 3))
    return subject.outcomes[check.name]


def _blocked(subject: Subject, check: Check) -> Outcome | None:
    if subject.found.error and check.name not in ("metadata", "hooks"):
        return Outcome(check.name, "not run", f"it cannot be loaded: {subject.found.error}")
    for name in check.needs:
        needed = checks()[name]
        state = run_check(subject, needed).state if subject.tier in needed.tiers else "passed"
        if state in ("failed", "not run"):
            return Outcome(check.name, "not run", f"it rests on {name}, which did not pass")
    return None


def _carry_out(subject: Subject, check: Check) -> Outcome:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if check.scope == "plugin":
                check.function(subject)
            else:
                with one_thread():
                    _each_case(subject, check)
    except NotApplicable as reason:
        return Outcome(check.name, "not applicable", str(reason))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is an outcome
        told = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        return Outcome(check.name, "failed", told)
    return Outcome(check.name, "passed")


def _each_case(subject: Subject, check: Check) -> None:
    for trial in subject.trials:
        if check.everywhere or trial.setting is subject.settings[0]:
            try:
                check.function(trial)
            except NotApplicable:
                raise
            except Exception as error:
                raise Failed(f"{_told(error)} [{trial}]") from error


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"


def _excepted(subject: Subject, outcome: Outcome) -> Outcome:
    """A failure that is declared is an exception; a declared one that is none is a failure."""
    reason = subject.spec.exceptions.get(outcome.check)
    if reason is None:
        return outcome
    if outcome.state == "failed":
        return Outcome(outcome.check, "exception", reason)
    if outcome.state == "passed":
        return Outcome(outcome.check, "failed", f"it passes, so its exception is out of date; remove it ({reason})")
    return outcome


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floating point numbers are the same only for the same number of threads."""
    import torch

    threads, cudnn = torch.get_num_threads(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


__all__ = ["Trial", "one_thread", "run_all", "run_check"]
