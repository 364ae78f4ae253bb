"""Refuse what cannot work, and change what must differ."""

from collections.abc import Iterable

from sdcore import Change, Plugin, Problem, Run, hookimpl


class PatientPlugin(Plugin):
    name = "patient"

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        if run.model.family == "refiner":
            yield Problem("it needs a base model, not a refiner; leave it out of `use`")
        elif run.request.steps < 4:
            yield Change(steps=4)
