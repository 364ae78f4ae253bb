"""Engine: one loaded model and its plugins. The main path, from request to result."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .batches import Batch, collect
from .discovery import disabled_names
from .errors import ModelError, RequestError, SdcoreError
from .events import Finished, Warned
from .host import PluginHost
from .job import Job, Observer
from .memory import MOST, batch_size, in_batches
from .order import Plan
from .plugin import Options, Plugin
from .request import GenerateRequest, Use
from .resolve import as_request, check_defaults, complete, resolve_uses
from .result import Result
from .schedulers import register_builtin
from .stream import Stream
from .turns import Turns
from .unet import find_sites

if TYPE_CHECKING:
    from .models import Model
    from .text import TextCache
    from .trace.tracer import Tracer

MAX_PIXELS = 64_000_000
AnyRequest = GenerateRequest | str | Mapping[str, Any] | None
"""A request, the prompt alone, the fields in a mapping, or nothing."""


class Engine:
    """One model with its plugins. Thread-safe: runs on one engine take turns.

    Make one with :meth:`load` or :meth:`from_pipeline`. ``Engine(other.model, always=...)`` is one with other plugins
    or another policy on the same weights; the two take turns. It is a context manager; :meth:`close` frees the model.
    """

    def __init__(
        self,
        model: Model,
        *,
        plugins: Iterable[str | type[Plugin]] | None = None,
        always: Sequence[Options | Use | str] = (),
        max_pixels: int = MAX_PIXELS,
        locked: str | os.PathLike[str] | None = None,
    ) -> None:
        _check_locked(locked)
        if not isinstance(max_pixels, int) or max_pixels < 1:
            raise RequestError(f"max_pixels is {max_pixels!r}; it is the number of pixels that a picture may have")
        check_defaults(model)
        self.host = PluginHost(plugins, before=register_builtin)
        self.max_pixels = max_pixels
        self._model: Model | None = model
        # A policy that cannot be carried out is an error now, not in the first run.
        self._always = resolve_uses(self.host, GenerateRequest(use=always).use)
        self._sites = find_sites(model.unet)
        # Another owner may change a shared text encoder without our knowing.
        self._texts: TextCache | None = None if model.source == "pipeline" else OrderedDict()
        self._known_schedules: set[object] = set()
        self._active: set[threading.Event] = set()
        self._turns = Turns(model.unet, model.components.values())

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
        locked: str | os.PathLike[str] | None = None,
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
            max_pixels: refuse larger pictures, given or asked for.
            locked: a lock (``sdcore plugins lock``): nothing is imported unless exactly what it locks is installed.

        Raises:
            ModelError: the model cannot be loaded.
            PluginLoadError: a named plugin cannot be used, or what is installed is not what was locked.
        """
        from .models import load_model

        _check_locked(locked)
        if not isinstance(source, str | os.PathLike | None):
            raise ModelError(f"source is a {type(source).__name__}; give a folder, a file, a name or a hub id as text")
        model = load_model(
            source,
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
        locked: str | os.PathLike[str] | None = None,
    ) -> Engine:
        """An engine around the components of a diffusers pipeline: shared with it, and left as they were."""
        from .models import from_pipeline

        return cls(from_pipeline(pipe), plugins=plugins, always=always, max_pixels=max_pixels, locked=locked)

    @property
    def model(self) -> Model:
        """The loaded model."""
        if self._model is None:
            raise SdcoreError("this engine is closed; load another one")
        return self._model

    # -- the main path ----------------------------------------------------------------------------------

    def generate(
        self, request: AnyRequest = None, *, on_event: Observer | None = None, trace: bool = False, **fields: Any
    ) -> Result:
        """Carry out a request.

        Args:
            request: a request, or the prompt; ``fields`` change it: ``generate("a cat", seed=3, steps=20)``.
            on_event: called with every :class:`sdcore.events.Event`; ``event.run.cancel()`` stops.
            trace: measure what each plugin does; ``result.trace`` tells. The pictures are the same, later.

        Raises:
            RequestError, ImageError, PluginLoadError, ConflictError: before anything is computed.
            PluginError: a plugin failed. Cancelled, Withheld, OutOfMemoryError: what they say.
            After any of them the engine is as it was.
        """
        cancelled = threading.Event()
        self._active.add(cancelled)
        try:
            return self._generate(as_request(request, fields), on_event, cancelled, trace)
        finally:
            self._active.discard(cancelled)

    def stream(self, request: AnyRequest = None, *, trace: bool = False, **fields: Any) -> Stream:
        """Carry out a request in a thread, and iterate over its events.

        The stream has ``cancel()`` and ``result()``; leaving the loop early cancels the run.
        """
        wanted = as_request(request, fields)
        cancelled = threading.Event()
        self._active.add(cancelled)
        return Stream(
            lambda observe: self._generate(wanted, observe, cancelled, trace), cancelled, self._active.discard
        )

    def explain(self, request: AnyRequest = None, **fields: Any) -> Plan:
        """Which stage of which plugin would run where, in order. Computes nothing; ``print`` it.

        Raises:
            RequestError, ImageError, PluginLoadError, ConflictError, PluginError: what ``generate`` would raise.
        """
        wanted = as_request(request, fields)
        with self._turns:
            job = self._job(wanted, None, threading.Event())
            run, _ = job.planned(complete(wanted, self.model, self.max_pixels), [0])
            return job.plan(run)

    def _generate(
        self, wanted: GenerateRequest, observer: Observer | None, cancelled: threading.Event, trace: bool
    ) -> Result:
        """The main path."""
        if observer is not None and not callable(observer):
            raise RequestError(f"on_event is a {type(observer).__name__}; give a function that takes an event")
        tracer = self._tracer() if trace else None
        job = self._job(wanted, observer, cancelled, tracer)
        request = complete(wanted, self.model, self.max_pixels)
        count = len(request.seeds or ())
        with self._turns, tracer or nullcontext():
            _ = self.model  # closed while this run waited?
            run, previews = job.planned(request, range(min(count, request.batch_size or MOST)))
            planned = run.request

            def one_batch(indices: Sequence[int], number: int, of: int) -> Batch:
                nonlocal run, previews
                if tuple(indices) != run.indices:
                    run, previews = job.planned(request, indices)
                return job.carry_out(run, previews, number, of)

            what = f"pictures of {run.width}x{run.height}"
            batches = in_batches(
                count, batch_size(run, count), one_batch, lambda text: job.tell(Warned(run, text)), what
            )
            result = collect(planned, batches)
            result.trace = None if tracer is None else tracer.trace()
            job.tell(Finished(run, result))
        return result

    def _tracer(self) -> Tracer:
        from .trace.tracer import Tracer

        return Tracer(self.model, self.host)

    def _job(
        self,
        wanted: GenerateRequest,
        observer: Observer | None,
        cancelled: threading.Event,
        tracer: Tracer | None = None,
    ) -> Job:
        return Job(
            host=self.host if tracer is None else tracer.host,
            model=self.model,
            sites=self._sites,
            texts=self._texts,
            max_pixels=self.max_pixels,
            uses=resolve_uses(self.host, wanted.use, self._always),
            policy=frozenset(name for name, _ in self._always),
            known=self._known_schedules,
            cancelled=cancelled,
            observer=observer,
            image=wanted.image,
            tracer=tracer,
        )

    def to_json(self, request: AnyRequest = None, **fields: Any) -> str:
        """A request as JSON, with options under their plugin's name; ``GenerateRequest.from_json`` reads it.

        Raises:
            RequestError: it holds what JSON cannot, such as latents.
            PluginLoadError: options of a plugin that this engine does not have.
        """
        return as_request(request, fields).to_json(self.host.owner)

    def cancel(self) -> None:
        """Stop every run on this engine before its next U-Net call. Callable from any thread."""
        for event in tuple(self._active):
            event.set()

    def close(self) -> None:
        """Cancel what runs, and let go of the model. A closed engine refuses to generate."""
        self.cancel()
        if self._model is None:
            return
        if self._turns.mine:  # called from inside the run, which ends with Cancelled
            self._let_go()
        else:
            with self._turns:
                self._let_go()

    def _let_go(self) -> None:
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


def _check_locked(file: str | os.PathLike[str] | None) -> None:
    """Before any plugin is imported."""
    if file is not None:
        from .trust import check_lock

        check_lock(file)
