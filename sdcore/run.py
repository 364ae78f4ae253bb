"""Run: one batch of a request being carried out. What the hooks are given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import Cancelled
from .plugin import Options
from .stash import State

if TYPE_CHECKING:
    import torch
    from torch import Generator

    from .models import Model
    from .registry import Registry
    from .request import GenerateRequest
    from .schedule import Schedule
    from .stages import Conditioning, Site

T = TypeVar("T", bound=Options)


class Run:
    """One batch of pictures on its way.

    Attributes:
        request: the request, complete: no field is left to a default.
        asked: the same before plugins' ``plan`` changed it.
        model: the loaded model.
        registry: what plugins have registered.
        seeds: the seeds of this batch, one per picture.
        indices: the pictures' places in the request.
        generators: one generator per picture, on the CPU, seeded with its seed.
        state: private state of plugins, by :class:`sdcore.StateKey`; dropped at the end of the run.
        conditioning: branch name to what the U-Net is told; filled before the first step.
        schedule: the timesteps; set before the latents are made.
        height, width: of the pictures of this run, in pixels.
        outer: in a pass that a stage of ``whole_run`` started, the run that it belongs to; else None. Such a stage
            hands something to the stages of its own plugin in the pass through ``run.state``, which they find as
            ``(run.outer or run).state``.
        given_image: the input picture as the user gave it (a path, bytes, a picture in memory, latents), where
            ``request.image`` is what was read from it; None without one. Passes have that of the whole run.
    """

    conditioning: Mapping[str, Conditioning]
    schedule: Schedule

    def __init__(
        self,
        request: GenerateRequest,
        model: Model,
        registry: Registry,
        uses: Sequence[tuple[str, Options | None]],
        seeds: Sequence[int],
        indices: Sequence[int],
        sites: Callable[[], Mapping[Site, object]],
        cancelled: threading.Event,
        outer: Run | None = None,
        warn: Callable[[Run, str], object] | None = None,
        given_image: Any = None,
    ) -> None:
        import torch

        self.request = request
        self.asked = request
        self.model = model
        self.registry = registry
        self.seeds = tuple(seeds)
        self.indices = tuple(indices)
        # CPU generators give the same noise whatever the device is.
        self.generators: list[Generator] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.state = State()
        self.conditioning = {}
        self._uses = tuple(uses)
        self._sites = sites
        self._cancelled = cancelled
        self.outer = outer
        self._warn = warn
        self.given_image = given_image

    @property
    def height(self) -> int:
        """Height of the pictures in pixels."""
        assert self.request.height is not None
        return self.request.height

    @property
    def width(self) -> int:
        """Width of the pictures in pixels."""
        assert self.request.width is not None
        return self.request.width

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the whole picture that leaves: what control images and masks of the whole belong to.

        ``request.canvas_size``, which plugins set that draw on another canvas than the run's; else the size of the run,
        or what its window is a part of.
        """
        if self.request.canvas_size is not None:
            return self.request.canvas_size
        left, top, right, bottom = self.request.window or (0.0, 0.0, 1.0, 1.0)
        return round(self.height / (bottom - top)), round(self.width / (right - left))

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's dtype; latents have it too."""
        return self.model.dtype

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site of the U-Net, in the order of the blocks. Empty for a denoiser without such blocks."""
        return tuple(self._sites())

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of the plugins in use, in the order of ``use``."""
        return tuple(dict.fromkeys(name for name, _ in self._uses))

    def uses(self, options: type[T]) -> tuple[T, ...]:
        """All options of this type in the request (and in ``always``), in order."""
        return tuple(item for _, item in self._uses if isinstance(item, options))

    def find_sites(self, kind: str | None = None, block: str | None = None) -> tuple[Site, ...]:
        """Sites of one kind (``"self"``, ``"cross"``, ``"resnet"``, ``"skip"``, ``"block"``) and block."""
        return tuple(s for s in self.sites if kind in (None, s.kind) and block in (None, s.block))

    def warn(self, message: str) -> None:
        """Tell the user something, without stopping: observers get it as the event ``Warned``."""
        if self._warn is not None:
            self._warn(self, message)

    def cancel(self) -> None:
        """Stop before the next U-Net call; callable from any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether someone has asked to stop."""
        return self._cancelled.is_set()

    def check_cancelled(self) -> None:
        """Raise :class:`sdcore.Cancelled` if someone has asked to stop. Call it in long work of your own."""
        if self._cancelled.is_set():
            raise Cancelled("the run was cancelled; nothing was returned, the engine is clean")
