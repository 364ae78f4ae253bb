"""The check that a plugin gets on with others: what they do comes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcore import ports

from .catalogue import check
from .comparing import difference, near
from .outcome import Failed
from .probe import COMMUTE, NAME, STAGES, probe
from .subject import Trial

if TYPE_CHECKING:
    from sdcore.ports import Port

MOST = 3
"""Shared ports that are tried; each takes a run or two."""
TOLERANCE = 1e-5


@check(17, "composition", "what other plugins do comes through, and sums commute", needs=("same-seed",))
def composition(trial: Trial) -> None:
    """A probe in front of it still shows, at each port that both use; at sums the order in ``use`` does not matter."""
    plan = trial.engine.explain(**trial.request(), use=[trial.use()])
    shared = [port for port in STAGES if any(stage.plugin == trial.name for stage in plan[port])]
    for port in (shared or [ports.latents_out])[:MOST]:
        _comes_through(trial, port)


def _comes_through(trial: Trial, port: Port[object]) -> None:
    engine = trial.subject.engine(trial.setting, probe(port, trial.name))
    use = [NAME, trial.use()]
    both = trial.run(on=engine, use=use)
    if not difference(trial.first, both):
        raise Failed(
            f"what another plugin does at {port} is lost: add to what a stage is given (inputs.add_residuals, "
            "prompt.replace), do not put your own in its place"
        )
    if port in COMMUTE:
        turned = trial.run(on=engine, use=use[::-1])
        near(both.latents, turned.latents, TOLERANCE, f"with another plugin at {port}, the order in use matters")
