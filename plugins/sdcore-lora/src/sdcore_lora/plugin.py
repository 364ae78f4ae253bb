"""The plugin: LoRA files as patches and side paths of the core."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sdcore import (
    Access,
    Branch,
    Contribution,
    Contributions,
    ModelError,
    Plugin,
    Problem,
    Registry,
    Run,
    StateKey,
    Step,
    hookimpl,
    ports,
)

from . import blocks, new_words, report
from .library import Entry, Library
from .options import LoRA

if TYPE_CHECKING:
    from .changes import Change

SEEN: StateKey[set[str]] = StateKey("lora-branches")


class LoRAPlugin(Plugin):
    """Merges constant LoRAs into the weights, and runs others beside the layers."""

    name = "lora"
    options = LoRA
    access = Access(
        network=True,
        files=("read", "write"),
        weights=("safetensors", "pickle"),
        when="network: where an option is a hub id; pickles: with allow_pickle; writes: sdcore lora, training",
    )

    def __init__(self) -> None:
        self._library = Library()

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command ``sdcore lora``, and the training ``lora`` where there is a trainer."""
        from .cli import fill

        registry.add("cli_command", "lora", fill)
        if importlib.util.find_spec("sdcore_train") is not None:
            registry.add("training", "lora", f"{__package__}.training.plugin:LoRATraining")

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem]:
        """Refuse files that cannot be read or are for another model, from their headers."""
        owners: dict[str, str] = {}
        for used in run.uses(LoRA):
            try:
                entry = self._library.entry(used.path, run.model, used.allow_pickle)
            except ModelError as error:
                yield Problem(str(error))
                continue
            if entry.binding.problem:
                yield Problem(entry.binding.problem)
            layers = entry.plan.layers_per_block
            wrong = blocks.problem_of(used.blocks, run.model.family, entry.plan.modules["unet"], layers)
            if wrong:
                yield Problem(wrong)
            if used.words:
                placed, _ = new_words.places(entry.contents, _widths(run))
                for word in placed:
                    other = owners.setdefault(word.lower(), used.path)
                    if other != used.path:
                        yield Problem(
                            f"{used.path} and {other} both bring the word {word!r}; give one of them words=False"
                        )

    @hookimpl
    def weights(self, run: Run) -> Contributions:
        """Contribute a patch or a side path for every layer."""
        from .changes import changes_of

        found: list[Contribution] = []
        for used, entry in self._sorted(run):
            if run.outer is None and 0 in run.indices:
                for line in report.warnings(used, entry, _widths(run)):
                    run.warn(line)
            if _silent(used):
                continue
            for change in changes_of(entry):
                found += _contributions(run, used, change, entry.plan.layers_per_block)
        return found

    @hookimpl
    def text(self, run: Run) -> Contributions:
        """Contribute the new words that files bring."""
        from sdcore.stages import Word

        components = list(_widths(run))
        found: dict[str, Contribution] = {}
        for used, entry in self._sorted(run):
            placed, _ = new_words.places(entry.contents, _widths(run)) if used.words else ({}, {})
            for word, vectors in new_words.vectors(placed, entry.tensors() if placed else {}, components):
                found[word.lower()] = ports.words(Word(text=word, vectors=vectors))
        return list(found.values())

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Tell of branches that were named and never came."""
        wanted = {name for used in run.uses(LoRA) for name in used.branches or ()}
        if not wanted:
            return None

        def watch(step: Step, latents: Any) -> None:
            if step.index + 1 == step.count:
                seen = run.state.make(SEEN, set)
                missing = sorted(wanted - seen)
                if missing:
                    there = ", ".join(sorted(seen))
                    run.warn(f"lora: no prediction is called {', '.join(missing)} in this run; there were {there}")

        return ports.latents_out(watch)

    @hookimpl
    def output(self, run: Run) -> Contributions:
        """Contribute to the record what each file is and what of it was used."""
        told = [report.summary(used, entry, _widths(run)) for used, entry in self._sorted(run)]
        return ports.metadata(lambda picture: {"files": told})

    def _sorted(self, run: Run) -> list[tuple[LoRA, Entry]]:
        """The LoRAs of a run in an order that depends on files and options only, so that sums round alike."""
        pairs = [(used, self._library.entry(used.path, run.model, used.allow_pickle)) for used in run.uses(LoRA)]
        if len(pairs) < 2:
            return pairs
        return sorted(pairs, key=lambda pair: (pair[1].digest(), pair[0].model_dump_json(exclude={"path"})))


def _widths(run: Run) -> dict[str, int]:
    """Widths of the text encoders by component, in their order."""
    parts: dict[str, Any] = run.model.components
    return {name: int(part.config.hidden_size) for name, part in parts.items() if name.startswith("text_encoder")}


def _silent(used: LoRA) -> bool:
    return used.constant and used.at(0.0) == 0 and used.for_text == 0


def _contributions(run: Run, used: LoRA, change: Change, layers: int) -> Iterator[Contribution]:
    from sdcore import SidePath, WeightPatch

    bound = change.bound
    factor = blocks.factor(used.blocks, bound.component, bound.layer.module, layers)
    if bound.component != "unet" or used.constant:
        weight = factor * (used.at(0.0) if bound.component == "unet" else used.for_text)
        if weight:
            for parameter, delta in change.parameters():
                yield ports.weights(WeightPatch(bound.component, parameter, delta, weight))
        return
    if not factor:
        return
    from .paths import side_path

    strength = _strength(run, used, factor)
    if not used.only_switched:  # else the weight is rewritten once or twice, and steps cost nothing
        module = run.model.unet.get_submodule(bound.parameter)
        path = side_path(bound.layer.algorithm, change.parts, change.scale, module)
        if path is not None:
            yield ports.weights(SidePath(bound.parameter, path, strength))
            return
    for parameter, delta in change.parameters():
        yield ports.weights(WeightPatch("unet", parameter, delta, strength))


def _strength(run: Run, used: LoRA, factor: float) -> Any:
    """The strength of a layer, by step and branch."""
    allowed = None if used.branches is None else frozenset(used.branches)
    seen = run.state.make(SEEN, set)

    def strength(step: Step, branch: Branch) -> float:
        if allowed is not None:
            seen.add(branch.id)
            if branch.id not in allowed:
                return 0.0
        return factor * used.at(step.fraction)

    return strength
