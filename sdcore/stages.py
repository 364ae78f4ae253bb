"""What stages receive and return: plain, mostly frozen values.

This file is long because it is the one page that an author of stages looks things up in, plain data without logic.

Each has ``replace(field=...)``, which gives a changed copy; none may be changed in place.

Shapes are written (batch, channels, height, width). Latents are in the model's latent space, pictures
as tensors are in [-1, 1]. ``rows`` of a batch belong to branches: all pictures of the first branch, then
all of the second; ``rows[name]`` is the slice of one branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator, Tensor

    from .run import Run

V = TypeVar("V", bound="Value")


class Value:
    """Base of what stages receive and return: a frozen dataclass."""

    tensor_fields: ClassVar[tuple[str, ...]] = ()
    """Tensors in it that other stages see too, so that no stage may change them in place."""

    def replace(self: V, **changes: Any) -> V:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[type-var]


SiteKind = Literal["self", "cross", "resnet", "skip", "block"]


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A place inside the U-Net.

    Attributes:
        block: ``"down"``, ``"mid"`` or ``"up"``.
        index: which down or up block, counted in the order in which they run; 0 for mid.
        layer: which layer of the block; 0 for ``kind="block"``.
        kind: ``"self"`` and ``"cross"`` attention, ``"resnet"``, ``"skip"`` (the join of a skip
            connection in an up block) or ``"block"`` (the whole block).
        depth: which transformer block of an attention layer (SDXL has up to ten in a layer).
    """

    block: str
    index: int
    layer: int
    kind: SiteKind
    depth: int = 0

    def __str__(self) -> str:
        depth = f".{self.depth}" if self.depth else ""
        return f"{self.block}.{self.index}.{self.layer}{depth}.{self.kind}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the denoising loop. All numbers live on the host: reading them never waits for a device.

    Attributes:
        index: 0 for the first step of this run.
        count: how many steps this run has (a second-order scheduler counts both halves).
        timestep: the training timestep that the U-Net is told.
        alpha: signal rate; ``latents = alpha * x0 + sigma * noise``.
        sigma: noise rate in the same equation. In the k-diffusion schedulers alpha is 1.
        run: the run that the step belongs to.
    """

    index: int
    count: int
    timestep: float
    alpha: float
    sigma: float
    run: Run

    @property
    def fraction(self) -> float:
        """How far the loop is, from 0 (first step) to just below 1."""
        return self.index / self.count


@dataclass(frozen=True)
class Prompt(Value):
    """The prompt pair of a run; ``negative`` is None when the request names none."""

    positive: str
    negative: str | None = None


@dataclass(frozen=True)
class TextArgs(Value):
    """One text on its way into one text encoder.

    Attributes:
        encoder: index into ``run.model.text_encoders``.
        text: the text; may be longer than the encoder's window.
        branch: ``"cond"`` or ``"uncond"``, or the name a plugin gave.
    """

    encoder: int
    text: str
    branch: str


@dataclass(frozen=True)
class TextEncoding(Value):
    """What a text encoder made of one text.

    Attributes:
        hidden: (1, tokens, width), a whole number of windows long.
        pooled: (1, width), or None for encoders without a projection.
        lost: words cut off at the end of the window, empty when nothing was lost.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens(Value):
    """Token ids entering an encoder: ``ids`` is (rows, window), int64."""

    encoder: int
    branch: str
    ids: Tensor


@dataclass(frozen=True, eq=False)
class Word:
    """A word with embeddings of its own, which prompts of this run may contain (arXiv 2208.01618).

    Attributes:
        text: as it stands in prompts, such as ``"<cat>"``; capitals do not matter. It is not found inside a
            longer word.
        vectors: for each text encoder of the model (places, width), or None where it is plain text.
    """

    text: str
    vectors: tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Conditioning(Value):
    """What one branch tells the U-Net, for one picture; the core repeats it over the batch.

    Attributes:
        context: (1, tokens, width) for cross-attention.
        pooled: (1, width) pooled text embedding (SDXL), or None.
        time_ids: (1, 5 or 6) size, crop and target size or aesthetic score (SDXL), or None.
    """

    tensor_fields = ("context", "pooled", "time_ids")

    context: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Branch(Value):
    """One of the predictions that a step needs; branches with the same id are computed once.

    Attributes:
        id: name under which guidance stages find the prediction.
        conditioning: None takes that of ``run.conditioning[id]``, or of ``"cond"``.
        tags: free labels that attention stages and weight patches can ask for (``"perturbed"``).
    """

    id: str
    conditioning: Conditioning | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class ImageArgs(Value):
    """A picture to encode: ``pixels`` (1, 3, height, width) in [-1, 1], the generator of its seed.

    ``index`` is its place in the batch, as in ``run.seeds``. ``purpose`` is ``"image"`` for the picture that the
    run starts from, or what a plugin calls it that encodes another with ``InitialLatents.encode``.
    """

    index: int
    pixels: Tensor
    generator: Generator
    purpose: str = "image"


@dataclass(frozen=True, eq=False)
class NoiseArgs(Value):
    """The initial noise wanted for one picture: ``shape`` is (1, channels, height, width).

    ``index`` is its place in the batch, as in ``run.seeds``; ``generator`` is that of its seed, on the CPU.
    """

    index: int
    seed: int
    shape: tuple[int, ...]
    generator: Generator


@dataclass(frozen=True, eq=False)
class InitialLatents(Value):
    """Where the loop starts.

    Attributes:
        latents: (batch, channels, height, width), noised for the first step.
        noise: the unit-variance noise in it, same shape; None if the latents came ready from elsewhere.
        image: latents of the input picture without noise, or None for text to picture.
        add_noise: ``add_noise(image, noise)`` noises clean latents for the first step.
        encode: ``encode(pixels, index, purpose)`` carries pixels (1, 3, height, width) in [-1, 1] to scaled latents
            with the generator of picture ``index``, through the stages of ``encode_image``, which see ``purpose``.
    """

    tensor_fields = ("latents", "noise", "image")

    latents: Tensor
    noise: Tensor | None
    image: Tensor | None
    add_noise: Callable[[Tensor, Tensor], Tensor]
    encode: Callable[[Tensor, int, str], Tensor]


@dataclass(frozen=True, eq=False)
class UNetInput(Value):
    """One call of the U-Net, with all branches of the step in one batch.

    Attributes:
        step: the step.
        sample: (branches * pictures, channels, height, width), scaled as the scheduler asks.
        timestep: 0-d tensor on the device.
        context: (branches * pictures, tokens, width).
        added: SDXL's ``text_embeds`` and ``time_ids``, or None.
        rows: branch id to the slice of its rows.
        branches: the branches, in row order.
        extra_channels: joined behind the latent channels (9-channel inpaint, 8-channel instruct).
        down_residuals: one tensor per skip connection, added to it (ControlNet), or None.
        mid_residual: added to the middle block's output (ControlNet), or None.
        intrablock_residuals: added inside the down blocks (T2I-Adapter), or None.
        timestep_cond: (rows, width) guidance embedding of distilled U-Nets, or None.
    """

    tensor_fields = ("sample", "context")

    step: Step
    sample: Tensor
    timestep: Tensor
    context: Tensor
    added: Mapping[str, Tensor] | None
    rows: Mapping[str, slice]
    branches: tuple[Branch, ...]
    extra_channels: Tensor | None = None
    down_residuals: tuple[Tensor, ...] | None = None
    mid_residual: Tensor | None = None
    intrablock_residuals: tuple[Tensor, ...] | None = None
    timestep_cond: Tensor | None = None

    def add_residuals(self, down: tuple[Tensor, ...] | None = None, mid: Tensor | None = None) -> UNetInput:
        """A copy with ControlNet residuals added to those already there, so that any number commute."""
        if down is not None and self.down_residuals is not None:
            down = tuple(a + b for a, b in zip(self.down_residuals, down, strict=True))
        if mid is not None and self.mid_residual is not None:
            mid = self.mid_residual + mid
        return replace(
            self,
            down_residuals=self.down_residuals if down is None else down,
            mid_residual=self.mid_residual if mid is None else mid,
        )

    def add_intrablock(self, residuals: tuple[Tensor, ...]) -> UNetInput:
        """A copy with T2I-Adapter features added to those already there."""
        if self.intrablock_residuals is not None:
            residuals = tuple(a + b for a, b in zip(self.intrablock_residuals, residuals, strict=True))
        return replace(self, intrablock_residuals=residuals)

    def add_channels(self, channels: Tensor) -> UNetInput:
        """A copy with ``channels`` (rows, any, height, width) joined behind the extra channels."""
        if self.extra_channels is not None:
            import torch

            channels = torch.cat([self.extra_channels, channels], dim=1)
        return replace(self, extra_channels=channels)


@dataclass(frozen=True, eq=False)
class StepArgs(Value):
    """A whole step: ``latents`` (batch, channels, height, width) before it."""

    step: Step
    latents: Tensor


@dataclass(frozen=True, eq=False)
class SchedulerArgs(Value):
    """The scheduler's update: model output after guidance, and the latents that it belongs to."""

    step: Step
    prediction: Tensor
    latents: Tensor


@dataclass(frozen=True, eq=False)
class AttentionArgs(Value):
    """One attention inside the U-Net.

    ``query`` is (rows, heads, tokens, head_dim), ``key`` and ``value`` (rows, heads, context, head_dim).
    ``mask`` is added to the logits, or None. ``rows`` and ``branches`` are those of the U-Net call.
    """

    tensor_fields = ("query", "key", "value")

    site: Site
    step: Step
    query: Tensor
    key: Tensor
    value: Tensor
    rows: Mapping[str, slice]
    branches: tuple[Branch, ...]
    mask: Tensor | None = None


@dataclass(frozen=True, eq=False)
class BlockArgs(Value):
    """A block or a resnet layer of the U-Net and its input ``hidden`` (rows, channels, height, width)."""

    site: Site
    step: Step
    hidden: Tensor
    rows: Mapping[str, slice]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, eq=False)
class BlockOutput(Value):
    """What a block returns: ``hidden``, and for a down block the skip connections that it emits.

    A stage that does not call ``call_next`` on a down block must give as many ``skips`` as the block would have.
    """

    hidden: Tensor
    skips: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class SkipPair(Value):
    """The two tensors that meet at a skip connection, before they are joined along the channels."""

    tensor_fields = ("hidden", "skip")

    hidden: Tensor
    skip: Tensor


@dataclass(frozen=True, eq=False)
class SiteCall(Value):
    """Where a site stage is called: site, step, and the rows of each branch."""

    site: Site
    step: Step
    rows: Mapping[str, slice]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, eq=False)
class DecodeArgs(Value):
    """Latents (batch, channels, height, width) to be decoded to pixels in [-1, 1]."""

    latents: Tensor


@dataclass(frozen=True, eq=False)
class RunOutput(Value):
    """What one pass makes of one batch.

    Attributes:
        latents: (batch, channels, height, width) after the last step.
        images: RGB pictures after the phase ``composite``, or None for ``output="latent"``.
    """

    latents: Tensor
    images: tuple[Image, ...] | None


@dataclass(frozen=True, eq=False)
class Picture(Value):
    """One finished picture: its place in the request (``run.indices`` has it too), its seed, its run."""

    index: int
    seed: int
    run: Run


@dataclass(frozen=True, eq=False)
class SerializeArgs(Value):
    """A picture to be written: ``format`` is "png", "jpeg" or "webp", ``record`` what travels inside."""

    image: Image
    format: str
    record: Any
    quality: int = 95


SEVERITIES = ("allow", "flag", "withhold", "error")
Severity = Literal["allow", "flag", "withhold", "error"]


@dataclass(frozen=True)
class Verdict:
    """A safety verdict. The most severe of all counts; ``error`` (the check itself failed) is the worst.

    Attributes:
        severity: ``allow`` < ``flag`` (returned, and reported) < ``withhold`` < ``error`` (withheld too).
        reason: one sentence for a person.
        check: name of the check.
        details: scores, thresholds: JSON values.
    """

    severity: Severity
    reason: str = ""
    check: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity is {self.severity!r}; it must be one of {', '.join(SEVERITIES)}")

    @property
    def withholds(self) -> bool:
        """Whether the picture must not leave."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index("withhold")


@dataclass(frozen=True, eq=False)
class WeightPatch:
    """A change of one weight, added to the original together with all other patches of it.

    ``weight = original + sum(strength * delta(original))``. The core writes it in place before the run and
    copies the kept original back afterwards, also after an exception.

    Attributes:
        target: ``"unet"``, ``"vae"``, ``"text_encoder"`` or ``"text_encoder_2"``.
        key: name of the parameter in the target's state dict.
        delta: from the original weight to the change; same shape. It is called again whenever the weight is
            rewritten, and must not change the original.
        strength: a factor, or a function of (step, branch) to a factor. A function makes the core rewrite
            the weight whenever the factor changes; branches with different factors run as separate
            batches. Only for the U-Net.
    """

    target: str
    key: str
    delta: Callable[[Tensor], Tensor]
    strength: float | Callable[[Step, Branch], float] = 1.0


@dataclass(frozen=True, eq=False)
class SidePath:
    """A path beside one module of the U-Net: ``output + strength * path(input)``.

    The way to weights that change with the step or the branch at low rank: nothing is rewritten.

    Attributes:
        module: name of the module, such as ``"mid_block.attentions.0.proj_in"``.
        path: from the module's input to something of the shape of its output.
        strength: a factor, or a function of (step, branch) to a factor; 0 skips the path.
    """

    module: str
    path: Callable[[Tensor], Tensor]
    strength: float | Callable[[Step, Branch], float] = 1.0
