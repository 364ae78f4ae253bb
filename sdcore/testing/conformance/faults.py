"""Checks of what happens when a run does not end: an error in a hook or a stage, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcore import ports
from sdcore.errors import Cancelled, PluginError
from sdcore.events import Event, Stepped
from sdcore.plugin import Plugin, hookimpl
from sdcore.plugin_class import hook_methods
from sdcore.ports import Contribution, Contributions

from .catalogue import check
from .comparing import same
from .isolation import Stumbling, _stumble
from .outcome import Failed, NotApplicable
from .subject import ENGINE_ONLY, Trial

if TYPE_CHECKING:
    from sdcore.engine import Engine
    from sdcore.run import Run
    from sdcore.stages import UNetInput

SILENT = ("judge",)
"""Hooks whose stages' errors are verdicts, not errors of the run."""


class Switch:
    """Where a fault is: the name of a hook whose stages fail, or "" for nowhere."""

    hook = ""


class Fault(RuntimeError):
    """A fault, on purpose."""


def faulty(factory: type[Plugin], switch: Switch) -> type[Plugin]:
    """A plugin whose hooks, or the stages that they contribute, fail when the switch says so."""
    body: dict[str, Any] = {"__doc__": factory.__doc__, "__module__": factory.__module__}
    for name in hook_methods(factory):
        if name not in ENGINE_ONLY:
            body[name] = hookimpl(_failing(name, getattr(factory, name), switch))
    made: type[Plugin] = type(factory.__name__, (factory,), body)
    return made


def _failing(name: str, method: Callable[..., Any], switch: Switch) -> Any:
    if name == "observe":

        def observe(self: Any, event: Event) -> Any:
            _fail(name, switch)
            return method(self, event)

        return observe

    def hook(self: Any, run: Any) -> Any:
        found = method(self, run)
        if name == "plan":
            _fail(name, switch)
            return found
        given = [found] if isinstance(found, Contribution) else list(found or ())
        return [_wrapped(item, name, switch) for item in given]

    return hook


def _wrapped(item: Contribution, name: str, switch: Switch) -> Contribution:
    if not callable(item.fn) or hasattr(item.fn, "parameters"):
        return item  # patches and paths of weights are no stages

    def stage(*args: Any) -> Any:
        found = item.fn(*args)
        _fail(name, switch)
        return found

    return replace(item, fn=stage)


def _fail(name: str, switch: Switch) -> None:
    if switch.hook == name:
        raise Fault(f"a fault in {name}, on purpose")


@check(11, "errors", "an error is named, and the next run is as if there had been none", needs=("same-seed",))
def errors(trial: Trial) -> None:
    """A fault of a neighbour in the middle of a run, and one in each of the plugin's own hooks or stages."""
    neighbour = trial.subject.engine(trial.setting, Stumbling)
    try:
        _stumble(trial, neighbour)
    except NotApplicable:
        pass
    else:
        same(
            trial.first,
            trial.run(on=neighbour),
            "after another plugin failed in a run, the next run gave something else",
        )
    factory, switch = trial.subject.factory, Switch()
    assert factory is not None
    from sdcore.engine import Engine

    engine = Engine(trial.setting.model, plugins=[faulty(factory, switch)])
    told = [_fault(trial, engine, switch, hook) for hook in _stage_hooks(factory)]
    if not any(told):
        return
    same(trial.first, trial.run(on=engine), "after it failed in a run, the next run gave something else")


def _stage_hooks(factory: type[Plugin]) -> Iterable[str]:
    return (name for name in hook_methods(factory) if name not in (*ENGINE_ONLY, *SILENT))


def _fault(trial: Trial, engine: Engine, switch: Switch, hook: str) -> bool:
    """Whether a fault in a hook was met; it must come out with the plugin's name."""
    switch.hook = hook
    try:
        trial.run(on=engine)
    except PluginError as error:
        if error.plugin != trial.name:
            raise Failed(f"a fault in its hook {hook} was blamed on {error.plugin!r}: {error}") from error
        if "a fault in" not in str(error):
            raise
        return True
    except Exception as error:
        raise Failed(f"a fault in its hook {hook} came out as {type(error).__name__}: {error}") from error
    finally:
        switch.hook = ""
    return False  # no stage of this hook is met by the case


class Cancelling(Plugin):
    """Cancels the run in the middle of its second step."""

    name = "conformance-cancel"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Cancel just before the U-Net is called."""

        def stop(inputs: UNetInput) -> None:
            if inputs.step.index == 1:
                inputs.step.run.cancel()

        return ports.unet_input(stop)


@check(18, "cancel", "cancelling in the middle leaves everything usable", needs=("errors",))
def cancel(trial: Trial) -> None:
    """Cancelled in the second step: the run ends as cancelled, and the next one is as if there had been none."""
    engine = trial.subject.engine(trial.setting, Cancelling)
    later = 0

    def count(event: Event) -> None:
        nonlocal later
        later += isinstance(event, Stepped) and event.run.cancelled

    try:
        trial.run(on=engine, use=[trial.use(), Cancelling.name], on_event=count)
    except Cancelled:
        pass
    else:
        raise Failed("a cancelled run gave a result: let Cancelled pass, and call run.check_cancelled() in long work")
    if later:
        raise Failed(f"a run that was cancelled went on for {later} more steps")
    same(trial.first, trial.run(on=engine), "after a run was cancelled, the next one gave something else")
