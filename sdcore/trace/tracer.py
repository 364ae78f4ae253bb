"""Tracer: everything that is put around a run to trace it, and taken off after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdcore.host import PluginHost

from .memory import memory_of
from .networks import Networks
from .recorder import Place, Recorder
from .report import Trace
from .residuals import Residuals
from .traced import trace_plan

if TYPE_CHECKING:
    from sdcore.models import Model
    from sdcore.order import Plan


class Tracer:
    """One request being traced. A context manager: inside, the model's networks are watched.

    Attributes:
        host: the engine's plugins, with their hooks timed.
    """

    def __init__(self, model: Model, host: PluginHost) -> None:
        self._memory = memory_of(model.device)
        self._recorder = Recorder(self._memory)
        self._residuals = Residuals(self._recorder)
        self._networks = Networks(model, self._recorder, self._residuals)
        self._device = str(model.device)
        self.host: PluginHost = _TimedHost(host, self._recorder)

    def plan(self, plan: Plan) -> Plan:
        """A plan of one pass, measured."""
        return trace_plan(plan, self._recorder, self._residuals)

    def stepped(self, index: int) -> None:
        """Step ``index`` is done."""
        self._recorder.step = index + 1

    def trace(self) -> Trace:
        """What was measured. Nothing is from here on: saving a picture is not part of the run."""
        self._recorder.open = False
        recorder = self._recorder
        return Trace(recorder.rows(), tuple(recorder.spans), recorder.seconds, self._device, self._memory.about)

    def __enter__(self) -> Tracer:
        self._networks.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self._recorder.open = False
        self._networks.detach()


class _TimedHost(PluginHost):
    """A host's plugins, with every call of a hook timed."""

    def __init__(self, host: PluginHost, recorder: Recorder) -> None:
        self.__dict__.update(vars(host))
        self._recorder = recorder

    def _call(self, hook: str, name: str, **kwargs: Any) -> Any:
        if (name, hook) not in self._callers or not self._recorder.open:
            return super()._call(hook, name, **kwargs)
        place = Place(name, self.label(name), hook, "hook", None, f"{hook}()", max(self._recorder.number, 1))
        step = getattr(getattr(kwargs.get("event"), "step", None), "index", None)
        with self._recorder.timed(place, step):
            return super()._call(hook, name, **kwargs)
