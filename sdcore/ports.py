"""The ports: every place where a plugin can add a stage, each of exactly one of four kinds.

A hook (a method of :class:`sdcore.Plugin`) returns contributions; a contribution is made by calling a port
with a plain function, the *stage*::

    return [ports.latents_out(self.blend), ports.image(self.tint, phase="restore")]

| kind | law |
|---|---|
| chain | value in, value out, folded in order; None means unchanged; shape, dtype and device must stay unless the port says otherwise |
| sum | all contributions are added, or merged by the law that the port states; they commute; None adds nothing |
| choose | at most one claimant; a second is an error before the run that names both |
| around | ``fn(args, call_next)``: an onion; may change the arguments, call several times, or not at all |

Within a port the order is: phase, then ``before``/``after`` plugin names, then the order in ``use``, then
name. Sums are added by name, so that the order in ``use`` changes not even the rounding.
``engine.explain(request)`` prints it. No stage may change what it is given in place: other stages see it too.

This file is long because it is a table: one entry for every port.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from . import laws
from . import stages as s

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

F = TypeVar("F")
Kind = Literal["chain", "sum", "choose", "around"]
Names = Iterable[str]


@dataclass(frozen=True, eq=False)
class Contribution:
    """One stage that a hook returned for one port, not yet ordered."""

    port: Port[Any]
    fn: Any
    phase: str | None = None
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    sites: tuple[s.Site, ...] | None = None
    graph_safe: bool = False


Contributions = Contribution | Iterable[Contribution] | None


@dataclass(frozen=True, eq=False)
class Port(Generic[F]):
    """A named place for stages. Calling it wraps a function into a :class:`Contribution`.

    Attributes:
        hook: the hook that may contribute to it.
        name: name within the hook; ``str(port)`` is ``"hook.name"``.
        kind: one of the four kinds.
        signature: the stage's signature, for people.
        doc: what the stage sees and returns, and where the law differs from that of the kind.
        phases: ordered phases, or empty; ``default_phase`` is where a stage goes that names none.
        per_site: stages name the U-Net sites that they want.
        law: says what is wrong with what a stage gave; see :mod:`sdcore.laws`.
    """

    hook: str
    name: str
    kind: Kind
    signature: str
    doc: str
    phases: tuple[str, ...] = ()
    default_phase: str | None = None
    per_site: bool = False
    law: laws.Law = laws.same

    def __call__(
        self,
        fn: F,
        *,
        phase: str | None = None,
        before: Names = (),
        after: Names = (),
        sites: Iterable[s.Site] | None = None,
        graph_safe: bool = False,
    ) -> Contribution:
        """Contribute ``fn``.

        Args:
            fn: the stage.
            phase: one of ``phases`` of this port.
            before: names of plugins whose stages must run after this one.
            after: names of plugins whose stages must run before this one.
            sites: for ports inside the U-Net: where (``run.sites`` holds them all).
            graph_safe: the stage makes no decision on tensor values, so it may be captured in a graph.

        Raises:
            ValueError: the phase is not one of this port's; sites are missing, or out of place, or none.
            TypeError: ``fn`` is not a function. Both become a PluginError that names the plugin.
        """
        if phase is not None and phase not in self.phases:
            known = ", ".join(self.phases) or "none"
            raise ValueError(f"port {self} has no phase {phase!r}; its phases are: {known}")
        if self.per_site != (sites is not None):
            what = "needs `sites=`: take them from run.sites" if self.per_site else "takes no `sites=`"
            raise ValueError(f"port {self} {what}")
        chosen = (sites,) if isinstance(sites, s.Site) else None if sites is None else tuple(dict.fromkeys(sites))
        if chosen == ():
            raise ValueError(f"port {self} got an empty `sites=`: this U-Net has no such sites (see run.sites)")
        if not callable(fn) and not isinstance(fn, s.WeightPatch | s.SidePath | s.Word):
            raise TypeError(f"port {self} takes a function {self.signature}, got {type(fn).__name__}")
        return Contribution(
            self,
            fn,
            phase or self.default_phase,
            frozenset(_names(before)),
            frozenset(_names(after)),
            chosen,
            graph_safe,
        )

    def __str__(self) -> str:
        return f"{self.hook}.{self.name}"


def _names(names: Names) -> Names:
    return (names,) if isinstance(names, str) else names


if TYPE_CHECKING:
    Next = Callable[[F], Any]
    StepChain = Callable[[s.Step, Tensor], Tensor | None]
    Predictions = Mapping[str, Tensor]

# -- whole run ------------------------------------------------------------------------------------------
whole_run: Port[Callable[[Any, Callable[[Any], s.RunOutput]], s.RunOutput]] = Port(
    "whole_run", "whole_run", "around", "(request, call_next) -> RunOutput",
    "Around the whole run of one batch: `call_next(request)` carries out a request (changed with "
    "`request.replace(...)`) from text to composited pictures and may be called several times. To go on "
    "from its output, give its latents as `image`: they hold one picture for each seed. "
    "Phase `canvas` is outermost: which part of the picture is drawn, on which canvas (crop and paste back, "
    "outpainting, tiles); it tells the others with the request's `window`. Phase `passes`: how it is drawn "
    "(hires-fix, hand-over to a refiner). Safety, watermark and everything after happen once, outside.",
    ("canvas", "passes"), "passes",
    law=laws.a(s.RunOutput),
)  # fmt: skip

# -- weights --------------------------------------------------------------------------------------------
weights: Port[s.WeightPatch | s.SidePath] = Port(
    "weights", "weights", "sum", "WeightPatch | SidePath",
    "Not a function but a patch. Patches of one weight are added to the kept original, which is copied "
    "back after the run, bit for bit. Paths beside a module are added to its output.",
)  # fmt: skip

# -- text -----------------------------------------------------------------------------------------------
prompt: Port[Callable[[s.Prompt], s.Prompt | None]] = Port(
    "text", "prompt", "chain", "(prompt) -> Prompt | None",
    "The prompt pair before it is tokenised.",
    law=laws.prompt,
)  # fmt: skip
words: Port[s.Word] = Port(
    "text", "words", "sum", "Word",
    "Not a function but a word with embeddings of its own (textual inversion). Where it stands in a text, "
    "its vectors take the places of tokens. The union counts; a word given twice is an error.",
)  # fmt: skip
token_embeddings: Port[Callable[[s.Tokens, Tensor], Tensor | None]] = Port(
    "text", "token_embeddings", "chain", "(tokens, embeddings) -> Tensor | None",
    "Token embeddings (rows, window, width) of one encoder call, before positions are added.",
)  # fmt: skip
encode_text: Port[Callable[[s.TextArgs, Callable[[s.TextArgs], s.TextEncoding]], s.TextEncoding]] = Port(
    "text", "encode_text", "around", "(args, call_next) -> TextEncoding",
    "Around one text through one encoder.",
    law=laws.a(s.TextEncoding),
)  # fmt: skip
conditioning: Port[
    Callable[[Mapping[str, s.Conditioning]], Mapping[str, s.Conditioning] | None]
] = Port(
    "text", "conditioning", "chain", "(conditioning) -> Mapping[str, Conditioning] | None",
    "Branch name to Conditioning. Shapes may change; all contexts of a step must end up equally long.",
    law=laws.conditioning,
)  # fmt: skip

# -- latents --------------------------------------------------------------------------------------------
encode_image: Port[Callable[[s.ImageArgs, Callable[[s.ImageArgs], Tensor]], Tensor]] = Port(
    "latents", "encode_image", "around", "(args, call_next) -> Tensor",
    "Around the codec's encoder: pixels (1, 3, h, w) to latents (1, channels, h/f, w/f), scaled.",
    law=laws.pixels_or_latents("pixels"),
)  # fmt: skip
noise: Port[Callable[[s.NoiseArgs], Tensor]] = Port(
    "latents", "noise", "choose", "(args) -> Tensor",
    "The initial noise of one picture, unit variance. Default: normal, from the picture's generator.",
    law=laws.shaped,
)  # fmt: skip
initial_latents: Port[Callable[[s.InitialLatents], s.InitialLatents | None]] = Port(
    "latents", "initial_latents", "chain", "(initial) -> InitialLatents | None",
    "Where the loop starts: latents, the noise in them, the clean latents of the input picture.",
    law=laws.fields("latents", "noise", "image"),
)  # fmt: skip
sigmas: Port[Callable[[tuple[float, ...]], tuple[float, ...] | None]] = Port(
    "latents", "sigmas", "chain", "(sigmas) -> tuple[float, ...] | None",
    "The noise levels to visit, falling, without the final zero. The length may change.",
    law=laws.falling,
)  # fmt: skip
timesteps: Port[Callable[[tuple[float, ...]], tuple[float, ...] | None]] = Port(
    "latents", "timesteps", "chain", "(timesteps) -> tuple[float, ...] | None",
    "The training timesteps to visit, falling, after `strength` and the denoising range were applied. "
    "Steps may be dropped at either end.",
    law=laws.falling,
)  # fmt: skip

# -- step -----------------------------------------------------------------------------------------------
whole_step: Port[Callable[[s.StepArgs, Callable[[s.StepArgs], Tensor]], Tensor]] = Port(
    "step", "whole_step", "around", "(args, call_next) -> Tensor",
    "Around a whole step: latents to latents. Tiles and repeated steps go here.",
    law=laws.like("latents"),
)  # fmt: skip
latents_in: Port[StepChain] = Port(
    "step", "latents_in", "chain", "(step, latents) -> Tensor | None", "Latents entering the step."
)
branches: Port[Callable[[s.Step], Iterable[s.Branch] | None]] = Port(
    "step", "branches", "sum", "(step) -> Iterable[Branch] | None",
    "Predictions that the plugin needs in this step; equal ids are computed once, all in one batch.",
)  # fmt: skip
unet_input: Port[Callable[[s.UNetInput], s.UNetInput | None]] = Port(
    "step", "unet_input", "chain", "(inputs) -> UNetInput | None",
    "Everything the U-Net is given. Use `add_residuals`, `add_intrablock`, `add_channels`: they are sums.",
    law=laws.unet_input,
)  # fmt: skip
unet_call: Port[Callable[[s.UNetInput, Callable[[s.UNetInput], Tensor]], Tensor]] = Port(
    "step", "unet_call", "around", "(inputs, call_next) -> Tensor",
    "Around the U-Net: caching, tiling, another back-end. Returns (rows, channels, height, width).",
    law=laws.like("sample"),
)  # fmt: skip
guidance: Port[Callable[[s.Step, Predictions], Tensor]] = Port(
    "step", "guidance", "choose", "(step, predictions) -> Tensor",
    "Combines the branches' predictions. Default: classifier-free guidance; a claimant asks for the "
    "branches that it needs through `branches`.",
)  # fmt: skip
guidance_terms: Port[Callable[[s.Step, Predictions], Tensor | None]] = Port(
    "step", "guidance_terms", "sum", "(step, predictions) -> Tensor | None",
    "A term added to the guided prediction.",
)  # fmt: skip
prediction: Port[Callable[[s.Step, Tensor, Predictions], Tensor | None]] = Port(
    "step", "prediction", "chain", "(step, value, predictions) -> Tensor | None",
    "The guided prediction as x0 (phase `x0`), as noise (phase `epsilon`), or as the model puts it out "
    "(phase `rescale`, after both).",
    ("x0", "epsilon", "rescale"), "rescale",
)  # fmt: skip
scheduler_step: Port[Callable[[s.SchedulerArgs, Callable[[s.SchedulerArgs], Tensor]], Tensor]] = Port(
    "step", "scheduler_step", "around", "(args, call_next) -> Tensor", "Around the scheduler's update.",
    law=laws.like("latents"),
)  # fmt: skip
latents_out: Port[StepChain] = Port(
    "step", "latents_out", "chain", "(step, latents) -> Tensor | None",
    "Latents leaving the step, before the step's event: blending with a mask goes here.",
)  # fmt: skip

preview: Port[StepChain] = Port(
    "step", "preview", "chain", "(step, x0) -> Tensor | None",
    "The predicted x0 (batch, channels, height, width) in latent space. Phase `compose` is seen by previews and by "
    "`judge_preview`: what a plugin will put into the picture anyway (the kept part of an inpainted one) goes into it "
    "here. Phase `show` is seen by previews only: a policy coarsens there what has not been judged yet.",
    ("compose", "show"), "compose",
)  # fmt: skip

# -- inside the U-Net -----------------------------------------------------------------------------------
attention_qkv: Port[Callable[[s.AttentionArgs], s.AttentionArgs | None]] = Port(
    "unet", "attention_qkv", "chain", "(args) -> AttentionArgs | None",
    "Query, key and value after projection; the number of keys may change. Sites: self, cross.",
    per_site=True,
    law=laws.query_key_value,
)  # fmt: skip
attention: Port[Callable[[s.AttentionArgs, Callable[[s.AttentionArgs], Tensor]], Tensor]] = Port(
    "unet", "attention", "around", "(args, call_next) -> Tensor",
    "Around attention itself; returns (rows, heads, tokens, head_dim). Sites: self, cross.",
    per_site=True,
    law=laws.like("query"),
)  # fmt: skip
attention_add: Port[Callable[[s.AttentionArgs], Tensor | None]] = Port(
    "unet", "attention_add", "sum", "(args) -> Tensor | None",
    "Added to the attention's result before its output projection (IP-Adapter). Sites: self, cross.",
    per_site=True,
)  # fmt: skip
attention_probs: Port[Callable[[s.AttentionArgs, Tensor], Tensor | None]] = Port(
    "unet", "attention_probs", "chain", "(args, probabilities) -> Tensor | None",
    "Softmax probabilities (rows, heads, tokens, context). Turns fused attention off at these sites only.",
    per_site=True,
)  # fmt: skip
block_output: Port[Callable[[s.SiteCall, Tensor], Tensor | None]] = Port(
    "unet", "block_output", "chain", "(call, hidden) -> Tensor | None",
    "What a block or resnet layer puts out. Sites: block, resnet.",
    per_site=True,
)  # fmt: skip
skip: Port[Callable[[s.SiteCall, s.SkipPair], s.SkipPair | None]] = Port(
    "unet", "skip", "chain", "(call, pair) -> SkipPair | None",
    "Backbone features and skip connection where they meet. Sites: skip.",
    ("scale", "inject"), "scale", per_site=True,
    law=laws.fields("hidden", "skip"),
)  # fmt: skip
block: Port[Callable[[s.BlockArgs, Callable[[s.BlockArgs], s.BlockOutput]], s.BlockOutput]] = Port(
    "unet", "block", "around", "(args, call_next) -> BlockOutput",
    "Around a block or resnet layer: caching, skipping layers. Sites: block, resnet.",
    per_site=True,
    law=laws.a(s.BlockOutput),
)  # fmt: skip

# -- decode ---------------------------------------------------------------------------------------------
decode: Port[Callable[[s.DecodeArgs, Callable[[s.DecodeArgs], Tensor]], Tensor]] = Port(
    "decode", "decode", "around", "(args, call_next) -> Tensor",
    "Around the codec's decoder: latents to pixels (batch, 3, height, width) in [-1, 1].",
    law=laws.pixels_or_latents("latents"),
)  # fmt: skip
image: Port[Callable[[s.Picture, Image], Image | None]] = Port(
    "decode", "image", "chain", "(picture, image) -> Image | None",
    "One picture (RGB). Phase `composite` runs in every pass of a whole_run stage, the others once on "
    "what leaves; the size may change in `restore`.",
    ("composite", "restore", "safety", "watermark"), "restore",
)  # fmt: skip

# -- output ---------------------------------------------------------------------------------------------
metadata: Port[Callable[[s.Picture], Mapping[str, Any] | None]] = Port(
    "output", "metadata", "sum", "(picture) -> Mapping[str, JSON value] | None",
    "Goes into the record under the plugin's name. Merged by plugin; a key given twice is an error.",
)  # fmt: skip
serialize: Port[Callable[[s.SerializeArgs], bytes]] = Port(
    "output", "serialize", "choose", "(args) -> bytes",
    "The file's bytes. Default: PNG, JPEG or WebP with the record inside.",
)  # fmt: skip
seal: Port[Callable[[s.SerializeArgs, bytes], bytes]] = Port(
    "output", "seal", "choose", "(args, data) -> bytes",
    "The last word on the bytes: nothing touches them afterwards. Default: none.",
)  # fmt: skip

# -- judge ----------------------------------------------------------------------------------------------
judge_prompt: Port[Callable[[s.Prompt], s.Verdict | None]] = Port(
    "judge", "judge_prompt", "sum", "(prompt) -> Verdict | None",
    "Before any computing. The most severe verdict wins; an exception counts as the most severe.",
)  # fmt: skip
judge_preview: Port[Callable[[s.Step, Tensor], Iterable[s.Verdict | None] | None]] = Port(
    "judge", "judge_preview", "sum", "(step, x0) -> Iterable[Verdict | None] | None",
    "The predicted x0 (batch, channels, height, width) in latent space after a step: one verdict a picture.",
)  # fmt: skip
judge_image: Port[Callable[[s.Picture, Image], s.Verdict | None]] = Port(
    "judge", "judge_image", "sum", "(picture, image) -> Verdict | None",
    "What would leave, after the phase `safety` and before the watermark.",
)  # fmt: skip

PORTS: tuple[Port[Any], ...] = tuple(value for value in list(globals().values()) if isinstance(value, Port))
"""All ports, in the order in which a run meets them."""
