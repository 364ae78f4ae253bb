"""Engine: one loaded model and its plugins. The main path, from request to result."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import is_out_of_memory, onion
from .discovery import disabled_names
from .errors import OutOfMemoryError, RequestError, SdcoreError
from .events import Event, Finished, Started, Stepped, Warned
from .finishing import finish, judged
from .host import PluginHost
from .memory import batch_size
from .order import Plan
from .passes import PassState, Services, carry_out, plan_run, withhold
from .planning import Change
from .plugin import Options, Plugin
from .request import GenerateRequest, Use
from .resolve import Uses, as_request, complete, resolve_uses
from .result import OnePicture, Result, WithheldPicture
from .run import Run
from .schedulers import register_builtin
from .stages import Prompt, RunOutput
from .stream import Stream
from .unet import find_sites

if TYPE_CHECKING:
    from torch.nn import Module

    from .models import Model
    from .text import TextCache

Observer = Callable[[Event], object]
MAX_PIXELS = 64_000_000

# Weights and sites are changed in place during a run, so two engines around one U-Net take turns.
_locks: weakref.WeakKeyDictionary[Module, threading.RLock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


class Engine:
    """One model with its plugins. Thread-safe: runs on one engine take turns.

    Make one with :meth:`load` or :meth:`from_pipeline`. It is a context manager; :meth:`close` frees the model.
    """

    def __init__(
        self,
        model: Model,
        *,
        plugins: Iterable[str | type[Plugin]] | None = None,
        always: Sequence[Options | Use | str] = (),
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.host = PluginHost(plugins, before=register_builtin)
        self.max_pixels = max_pixels
        self._model: Model | None = model
        self._always = GenerateRequest(use=tuple(always)).use
        resolve_uses(self.host, (), self._always)  # a policy that cannot be carried out is an error now
        self._sites = find_sites(model.unet)
        # Another owner may change a shared text encoder without our knowing.
        self._texts: TextCache | None = None if model.source == "pipeline" else OrderedDict()
        self._active: set[threading.Event] = set()
        with _locks_guard:
            self._lock = _locks.setdefault(model.unet, threading.RLock())

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Any = None,
        plugins: Iterable[str | type[Plugin]] | None = None,
        always: Sequence[Options | Use | str] = (),
        components: Mapping[str, object] | None = None,
        prediction_type: str | None = None,
        allow_pickle: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Engine:
        """Load a model.

        Args:
            source: a diffusers folder, a ``.safetensors`` checkpoint in the original layout, the name of an
                installed model, a hub id, or None for the installed model.
            device: such as ``"cuda"`` or ``"cpu"``; None takes what is there.
            dtype: a torch dtype or its name; None is float32 on a CPU, float16 on a GPU.
            plugins: None for all that are installed; else names, Plugin classes, and ``"installed"`` for the rest.
            always: options that are in every run and that no request can remove: the application's policy.
            components: parts to take from elsewhere: ``{"vae": "path"}``.
            prediction_type: ``"epsilon"`` or ``"v_prediction"``, where a checkpoint does not say.
            allow_pickle: accept ``.ckpt`` and ``.bin``, read with ``weights_only=True``.
            max_pixels: refuse larger input pictures.

        Raises:
            ModelError: the model cannot be loaded.
            PluginLoadError: a named plugin cannot be used.
        """
        from .models import load_model

        chosen = os.fspath(source) if source is not None else None
        model = load_model(
            chosen,
            device=device,
            dtype=dtype,
            components=components,
            allow_pickle=allow_pickle,
            prediction_type=prediction_type,
        )
        return cls(model, plugins=plugins, always=always, max_pixels=max_pixels)

    @classmethod
    def from_pipeline(
        cls,
        pipe: object,
        *,
        plugins: Iterable[str | type[Plugin]] | None = None,
        always: Sequence[Options | Use | str] = (),
        max_pixels: int = MAX_PIXELS,
    ) -> Engine:
        """An engine around the components of a diffusers pipeline: shared with it, and left as they were."""
        from .models import from_pipeline

        return cls(from_pipeline(pipe), plugins=plugins, always=always, max_pixels=max_pixels)

    @property
    def model(self) -> Model:
        """The loaded model."""
        if self._model is None:
            raise SdcoreError("this engine is closed; load another one")
        return self._model

    # -- the main path ----------------------------------------------------------------------------------

    def generate(
        self,
        request: GenerateRequest | str | Mapping[str, Any] | None = None,
        *,
        on_event: Observer | None = None,
        **fields: Any,
    ) -> Result:
        """Carry out a request.

        Args:
            request: a request, or the prompt; ``fields`` change it: ``generate("a cat", seed=3, steps=20)``.
            on_event: called with every :class:`sdcore.events.Event`; ``event.run.cancel()`` stops.

        Raises:
            RequestError, ImageError, PluginLoadError, ConflictError: before anything is computed.
            PluginError: a plugin failed. Cancelled, Withheld, OutOfMemoryError: what they say.
            After any of them the engine is as it was.
        """
        cancelled = threading.Event()
        self._active.add(cancelled)
        try:
            return self._generate(as_request(request, fields), on_event, cancelled)
        finally:
            self._active.discard(cancelled)

    def stream(self, request: GenerateRequest | str | Mapping[str, Any] | None = None, **fields: Any) -> Stream:
        """Carry out a request in a thread, and iterate over its events.

        The stream has ``cancel()`` and ``result()``; leaving the loop early cancels the run.
        """
        wanted = as_request(request, fields)
        cancelled = threading.Event()
        self._active.add(cancelled)
        return Stream(lambda observe: self._generate(wanted, observe, cancelled), cancelled, self._active.discard)

    def explain(self, request: GenerateRequest | str | Mapping[str, Any] | None = None, **fields: Any) -> Plan:
        """Which stage of which plugin would run where, in order. Computes nothing; ``print`` it."""
        wanted = as_request(request, fields)
        uses = resolve_uses(self.host, wanted.use, self._always)
        full = complete(wanted, self.model, self.max_pixels)
        assert full.seeds is not None
        run = self._run(full, uses, full.seeds[:1], [0], threading.Event())
        self._apply_plans(run)
        return plan_run(self.host, run)

    def cancel(self) -> None:
        """Stop every run on this engine before its next U-Net call. Callable from any thread."""
        for event in tuple(self._active):
            event.set()

    def _generate(self, wanted: GenerateRequest, observer: Observer | None, cancelled: threading.Event) -> Result:
        uses = resolve_uses(self.host, wanted.use, self._always)
        request = complete(wanted, self.model, self.max_pixels)
        seeds = request.seeds
        assert seeds is not None
        with self._lock:
            first = self._run(request, uses, seeds[:1], [0], cancelled)
            previews = self._apply_plans(first)
            request, size = first.request, batch_size(first, len(seeds))
            batches = [range(at, min(at + size, len(seeds))) for at in range(0, len(seeds), size)]
            outputs: list[tuple[RunOutput, list[OnePicture | WithheldPicture], tuple[str, ...]]] = []
            smaller = False
            while batches:
                indices = batches.pop(0)
                run = self._run(request, uses, [seeds[i] for i in indices], list(indices), cancelled)
                started = Started(run, len(outputs) + 1, len(outputs) + 1 + len(batches), request.steps or 0)
                try:
                    outputs.append(self._batch(run, uses, wanted.image, observer, previews, started))
                except Exception as error:
                    if not is_out_of_memory(error) or isinstance(error, OutOfMemoryError):
                        raise
                    _free_memory(error)
                    if smaller or len(indices) == 1:
                        raise OutOfMemoryError(
                            f"{len(indices)} picture(s) of {request.width}x{request.height} do not fit into memory; "
                            "use a smaller size, batch_size=1, or half precision"
                        ) from error
                    smaller, half = True, (len(indices) + 1) // 2
                    rest = [i for i in range(indices[0], len(seeds))]
                    batches = [range(at, min(at + half, len(seeds))) for at in range(rest[0], len(seeds), half)]
            result = _collect(request, outputs)
            self._tell(observer, Finished(run, result), run.plugins)
        return result

    def _batch(
        self, run: Run, uses: Uses, image: Any, observer: Observer | None, previews: bool, started: Started
    ) -> tuple[RunOutput, list[OnePicture | WithheldPicture], tuple[str, ...]]:
        """One batch: plan, run, finish."""
        run.check_cancelled()
        plan = plan_run(self.host, run)
        self._judge_prompt(run, plan)
        names = run.plugins
        services = Services(
            self.host,
            self._texts,
            self._sites,
            lambda run, step, preview: self._tell(observer, Stepped(run, step, preview), names),
            lambda run, message: self._tell(observer, Warned(run, message), names),
        )
        self._tell(observer, started, names)
        state = PassState(len(run.seeds))

        def inner(request: GenerateRequest) -> RunOutput:
            """A pass of its own, with a plan of its own, inside the stages of ``whole_run``."""
            child = run if request is run.request else self._child(run, request)
            return carry_out(child, plan if child is run else plan_run(self.host, child), services, state, previews)

        output: RunOutput = onion(plan[ports.whole_run], inner)(run.request)
        if output.images is None:
            return output, [], state.lost
        return output, finish(run, plan, self.host, output, state, uses, image), state.lost

    # -- pieces -----------------------------------------------------------------------------------------

    def _run(
        self, request: GenerateRequest, uses: Uses, seeds: Sequence[int], indices: Sequence[int], cancelled: threading.Event
    ) -> Run:
        return Run(request, self.model, self.host.registry, uses, seeds, indices, lambda: self._sites, cancelled)

    def _child(self, outer: Run, request: GenerateRequest) -> Run:
        full = complete(request, self.model, self.max_pixels)
        if full.seeds is None or len(full.seeds) != len(outer.seeds):
            full = full.model_copy(update={"seeds": outer.seeds})
        child = self._run(full, outer._uses, full.seeds or outer.seeds, outer.indices, outer._cancelled)
        self._apply_plans(child)
        return child

    def _apply_plans(self, run: Run) -> bool:
        """Call ``plan`` on every plugin in use: collect the problems, make the changes. Whether previews may leave."""
        problems: list[str] = []
        changes: dict[str, tuple[Any, str]] = {}
        previews = True
        for name, item in self.host.plan(run, run.plugins):
            if not isinstance(item, Change):
                problems.append(f"{name}: {item.message}")
                continue
            previews = previews and item.previews
            for field, value in item.fields.items():
                if field in changes and changes[field][0] != value:
                    problems.append(
                        f"{changes[field][1]} needs {field}={changes[field][0]!r}, {name} needs {field}={value!r}; "
                        "leave one of them out"
                    )
                changes[field] = (value, name)
        if problems:
            raise RequestError("; ".join(problems))
        if changes:
            fields = {field: value for field, (value, _) in changes.items()}
            checked = GenerateRequest(**{"prompt": run.request.prompt, **_plain(run.request, fields), **fields})
            run.request = run.request.model_copy(update={field: getattr(checked, field) for field in fields})
            from .latents import check_size

            check_size(run.height, run.width, self.model.vae_scale_factor)
        return previews

    def _judge_prompt(self, run: Run, plan: Plan) -> None:
        prompt = Prompt(run.request.prompt, run.request.negative_prompt)
        found = [verdict for stage in plan[ports.judge_prompt] for verdict in judged(stage, prompt)]
        if any(verdict.withholds for verdict in found):
            raise withhold(found)

    def _tell(self, observer: Observer | None, event: Event, names: Sequence[str]) -> None:
        self.host.observe(event, names)
        if observer is not None:
            observer(event)

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what runs, and let go of the model. A closed engine refuses to generate."""
        self.cancel()
        with self._lock:
            self._model = None
            self._sites = {}
            self._texts = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._model is None:
            return "<Engine closed>"
        disabled = f", disabled: {', '.join(sorted(disabled_names()))}" if disabled_names() else ""
        return f"<Engine {self._model.family} from {self._model.source}, {len(self.host.records)} plugins{disabled}>"


def _plain(request: GenerateRequest, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What must be set beside the changed fields for them to be valid."""
    return {"image": request.image} if {"strength", "denoising_start"} & fields.keys() else {}


def _collect(
    request: GenerateRequest, outputs: list[tuple[RunOutput, list[OnePicture | WithheldPicture], tuple[str, ...]]]
) -> Result:
    import torch

    finished = [item for _, items, _ in outputs for item in items]
    pictures = tuple(item for item in finished if isinstance(item, OnePicture))
    withheld = tuple(item for item in finished if isinstance(item, WithheldPicture))
    if withheld and not pictures:
        raise withhold([verdict for item in withheld for verdict in item.verdicts])
    latents = torch.cat([output.latents for output, _, _ in outputs])
    if withheld:
        latents = latents[[place for place, item in enumerate(finished) if isinstance(item, OnePicture)]]
    lost = tuple(dict.fromkeys(word for _, _, words in outputs for word in words))
    return Result(request, pictures, latents, withheld, lost)


def _free_memory(error: BaseException) -> None:
    import gc

    import torch

    error.__traceback__ = None  # the frames hold the tensors that did not fit
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
