"""ControlNetPlugin: wires control nets to the U-Net's input."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sdcore import Access, Contributions, Plugin, Problem, Registry, Run, StateKey, hookimpl, ports

from .options import ControlNet
from .prepare import Prepared, make_controls, prepare

if TYPE_CHECKING:
    from sdcore.stages import UNetInput

    from .control import Control

PREPARED: StateKey[list[Prepared]] = StateKey("controlnet.prepared")
TRAININGS = {
    "controlnet": "controlnet:ControlNetTraining",
    "t2i-adapter": "t2i_adapter:T2IAdapterTraining",
    "canny-consistency": "consistency:CannyConsistencyTraining",
}
"""Trainings of sdcore-train, where it is installed: named, not imported."""


class ControlNetPlugin(Plugin):
    """ControlNets and T2I-Adapters, any number of each: what they add are sums, and commute.

    The instance keeps loaded nets, a few of them, and nothing of a run.
    """

    name = "controlnet"
    access = Access(
        network=True,
        files=("read", "write"),
        weights=("safetensors", "pickle"),
        when="network: where an option is a hub id; pickles: with allow_pickle; writes: sdcore preprocess, training",
    )
    options = ControlNet

    def __init__(self) -> None:
        from .nets import NetCache

        self.nets = NetCache()

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the preprocessors, the command ``sdcore preprocess``, and the trainings if sdcore-train is there."""
        from .preprocess import register_all

        register_all(registry)
        if find_spec("sdcore_train") is not None:
            for name, home in TRAININGS.items():
                registry.add("training", name, f"{__package__}.training.{home}")

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem]:
        """Check everything that can be checked without loading a net."""
        prepared, problems = prepare(run)
        run.state[PREPARED] = prepared
        return [Problem(problem) for problem in problems]

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Load what is not loaded, make the control pictures, and add to the U-Net's input in every step."""
        controls = make_controls(run, run.state[PREPARED], self.nets)
        if not controls:
            return None
        nets = [control for kind, control in controls if kind == "ControlNet"]
        adapters = [control for kind, control in controls if kind == "T2I-Adapter"]

        def stage(inputs: UNetInput) -> UNetInput | None:
            return add_control(inputs, nets, adapters)

        return ports.unet_input(stage)


def add_control(inputs: UNetInput, nets: list[Control], adapters: list[Control]) -> UNetInput | None:
    """The U-Net's input with what these nets and adapters add in its step; None if none of them acts in it."""
    found = inputs
    total: list[object] | None = None
    for net in nets:
        if net.acts(inputs.step):
            residuals = net.residuals(inputs)
            total = list(residuals) if total is None else [a + b for a, b in zip(total, residuals, strict=True)]  # type: ignore[operator]
    if total is not None:
        *down, mid = total
        found = found.add_residuals(tuple(down), mid)  # type: ignore[arg-type]
    for adapter in adapters:
        if adapter.adapter_acts(inputs.step):
            found = found.add_intrablock(tuple(adapter.features(inputs)))
    return None if found is inputs else found
