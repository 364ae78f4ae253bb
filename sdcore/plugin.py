"""Plugin: the hooks as typed methods. This is what the author of a plugin reads first.

A plugin is a subclass of :class:`Plugin` with a ``name``, an ``options`` class and some hooks, each marked
with :data:`hookimpl`::

    class Glow(Options):
        strength: float = 0.5

    class GlowPlugin(Plugin):
        name = "glow"
        options = Glow

        @hookimpl
        def decode(self, run: Run) -> Contributions:
            (glow,) = run.uses(Glow)
            return ports.image(lambda picture, image: brighten(image, glow.strength))

An instance lives as long as its engine and may hold loaded weights and caches. What belongs to one run goes
into ``run.state``. Hooks are called once per run (a batch of pictures), and only if the plugin is in use;
the stages that they return are called in the loop.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pluggy
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from .access import Access
from .ports import Contributions

if TYPE_CHECKING:
    from .events import Event
    from .planning import Change, Problem
    from .registry import Registry
    from .run import Run

PROJECT = "sdcore"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a plugin as a hook. A hook-named method without it is refused when the plugin loads."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ``" Did you mean 'x'?"`` or a list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f" Known: {', '.join(names[:20])}{more}." if names else ""


class AssetMark:
    """Marks an option field that names a file: its hash goes into the record, never its contents.

    In the JSON schema such a field has ``"format": "asset"``, so that whoever makes a form of the schema knows that a
    file is meant, and whoever takes options from strangers knows which texts would be opened.
    """

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "format": "asset"}


Asset = Annotated[
    str, AssetMark(), BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)
]
"""Field type for a path to a file that the result depends on: ``path: Asset``.

For options that take a path or a picture in memory: ``Annotated[Any, AssetMark()]``.
"""


class Options(BaseModel):
    """What a user writes to use a plugin: frozen, JSON in and out, unknown keys refused.

    Subclass it with the plugin's fields. Every field has a default or is required; document it with
    ``Field(description=...)``: CLI, schema and reference show it.

    Attributes:
        locked: set to True in plugins that carry out a policy (safety, watermark): options that an application
            gives in ``always`` then shut out options of the same plugin in a request.
        recorded: set to False in plugins that change no pixel and speak for whoever saves a picture (signatures): the
            record then leaves them out, so that others can replay it without a key that they cannot have.
    """

    locked: ClassVar[bool] = False
    recorded: ClassVar[bool] = True

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"{cls.__name__} has no option {key!r}.{nearest(str(key), cls.model_fields)}")
        return data


class Plugin:
    """Base of all plugins. Override the hooks that you need and mark each with ``@hookimpl``.

    Attributes:
        name: the entry-point name, as users write it: short, kebab case.
        options: the options class, or None when there is nothing to set.
        access: what the plugin touches beside the values that its stages are given, as a statement to whoever vets
            it: ``Access(files=("read",), weights=("safetensors",))``. None is shown as undeclared.
    """

    name: ClassVar[str] = ""
    options: ClassVar[type[Options] | None] = None
    access: ClassVar[Access | None] = None

    # Plugins are told apart by identity: pluggy keeps them in a dict.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @hookspec
    def register(self, registry: Registry) -> None:
        """Add named things to the engine: schedulers, preprocessors, asset loaders, CLI commands, any kind.

        When: once, when the engine starts, for every loaded plugin, in use or not.
        Returns: nothing; call ``registry.add(kind, name, value)``.
        Order: by plugin name; a name that is taken is an error naming both plugins.
        Errors: the plugin is listed as broken and raises when used; other plugins load.
        """

    @hookspec
    def plan(self, run: Run) -> Iterable[Problem | Change] | None:
        """Look at a request before anything is loaded or computed.

        When: first in every run. ``run.request`` is complete; ``run.model`` may be inspected.
        Returns: one or several of ``Problem("...")`` for what cannot work (wrong family, missing file): the
            request is refused with all problems at once; ``Change(steps=30)`` for fields that must differ.
        Order: as in ``use``; two plugins that change one field to different values conflict.
        Errors: PluginError before anything is computed.
        """

    @hookspec
    def whole_run(self, run: Run) -> Contributions:
        """Wrap the whole run: hires-fix, hand-over to a refiner, crop and paste back, tiles.

        When: once per run, after ``plan``; the stages are called around the run.
        Returns: contributions to the port ``whole_run``.
        Order: the first in order is the outermost.
        Errors: as of any stage: PluginError, the engine clean.
        """

    @hookspec
    def weights(self, run: Run) -> Contributions:
        """Change weights for this run: LoRA and its relatives, merges.

        When: once per run, after ``plan``; the patches are written before the text is encoded.
        Returns: contributions to the port ``weights``: WeightPatch and SidePath.
        Order: none; patches of one weight are summed.
        Errors: whatever was written is restored bit for bit.
        """

    @hookspec
    def text(self, run: Run) -> Contributions:
        """Work on the prompt, on token embeddings, on the encoders, on the conditioning.

        When: once per run, after ``plan``; the stages are called when the weights are in.
        Returns: contributions to ``prompt``, ``token_embeddings``, ``encode_text``, ``conditioning``.
        Order: prompt, then encoders, then conditioning.
        Errors: PluginError, the engine clean.
        """

    @hookspec
    def latents(self, run: Run) -> Contributions:
        """Decide where the loop starts and which noise levels it visits.

        When: once per run, after ``plan``; the stages are called before the loop.
        Returns: contributions to ``encode_image``, ``noise``, ``initial_latents``, ``sigmas``, ``timesteps``.
        Order: sigmas, timesteps, encode_image, noise, initial_latents.
        Errors: PluginError, the engine clean.
        """

    @hookspec
    def step(self, run: Run) -> Contributions:
        """Take part in every denoising step.

        When: once per run; the stages are called in every step.
        Returns: contributions to ``whole_step``, ``latents_in``, ``branches``, ``unet_input``, ``unet_call``,
            ``guidance``, ``guidance_terms``, ``prediction``, ``scheduler_step``, ``latents_out``.
        Order: whole_step, latents_in, branches, unet_input, unet_call, guidance, guidance_terms, prediction,
            scheduler_step, latents_out.
        Errors: PluginError naming the step, the engine clean.
        """

    @hookspec
    def unet(self, run: Run) -> Contributions:
        """Reach inside the U-Net at named sites (``run.sites``).

        When: once per run; the stages are called at their sites in every U-Net call.
        Returns: contributions to ``attention_qkv``, ``attention``, ``attention_add``, ``attention_probs``,
            ``block_output``, ``skip``, ``block``, each with ``sites=``.
        Order: within a site: qkv, around attention, probabilities, add; around block, block output.
        Errors: PluginError naming the step; the sites are detached.
        """

    @hookspec
    def decode(self, run: Run) -> Contributions:
        """Turn latents into pictures, and work on pictures.

        When: once per run; the stages are called after the loop.
        Returns: contributions to ``decode`` and ``image``.
        Order: composite, restore, safety, watermark.
        Errors: PluginError, the engine clean.
        """

    @hookspec
    def output(self, run: Run) -> Contributions:
        """Take part in what is written: metadata, the file's bytes, the seal on them.

        When: once per run; metadata stages when the run ends, the others whenever a picture is saved.
        Returns: contributions to ``metadata``, ``serialize``, ``seal``.
        Order: metadata, serialize, seal; nothing touches the bytes after the seal.
        Errors: PluginError; no file is left.
        """

    @hookspec
    def judge(self, run: Run) -> Contributions:
        """Give safety verdicts on the prompt, on previews, on pictures.

        When: once per run; the stages are called on what is to be judged.
        Returns: contributions to ``judge_prompt``, ``judge_preview``, ``judge_image``.
        Order: none; the most severe verdict wins.
        Errors: fail closed: an exception counts as the verdict ``error``, the picture is withheld.
        """

    @hookspec
    def observe(self, event: Event) -> None:
        """Watch a run: progress, previews, logging. Read only.

        When: at the start, after every step, at the end.
        Returns: nothing.
        Order: as in ``use``.
        Errors: PluginError: an observer that fails stops the run.
        """


HOOKS: tuple[str, ...] = tuple(name for name, value in vars(Plugin).items() if hasattr(value, f"{PROJECT}_spec"))
"""Names of all hooks, in the order in which a run meets them."""
