"""The ports of a training: where a training plugin adds a stage, each of one of sdcore's four kinds.

They are made of :class:`sdcore.ports.Port`, so the words, laws and order are those of the engine: chains are folded,
sums added, a second claimant of a choose port is an error before any work, an around port is an onion.
"""

from __future__ import annotations

from typing import Any

from sdcore import laws
from sdcore.ports import Kind, Port

HOOK = "stages"


def _port(name: str, kind: Kind, signature: str, doc: str, **more: Any) -> Port[Any]:
    return Port(HOOK, name, kind, signature, doc, **more)


step = _port(
    "step",
    "around",
    "(args: TrainStep, call_next) -> dict[str, float]",
    "One update of the weights: forward and backward of all its micro-batches, clipping, optimizer. Returns the mean "
    "of each term of the loss. A stage may act before and after it.",
    law=laws.a(dict),
)
batch = _port(
    "batch",
    "chain",
    "(step: TrainStep, batch: Batch) -> Batch | None",
    "The batch before anything is computed of it: captions, masks and weights may change, not the number of pictures.",
)
forward = _port(
    "forward",
    "choose",
    "(step: TrainStep, batch: Batch) -> Outcome",
    "From the batch to a prediction and its target. The default is latent diffusion; training a VAE claims it.",
)
timesteps = _port(
    "timesteps",
    "choose",
    "(step: TrainStep, count: int, generator: Generator) -> Tensor",
    "One timestep for each picture, (n,) int64 in [0, number of training timesteps), on the CPU. Default: uniform.",
)
noise = _port(
    "noise",
    "chain",
    "(args: NoiseArgs, noise: Tensor) -> Tensor | None",
    "The noise (n, c, h, w), on the CPU, that is added to the latents and, for epsilon and v, predicted.",
)
noisy = _port(
    "noisy",
    "chain",
    "(args: NoiseArgs, noise: Tensor) -> Tensor | None",
    "The noise that makes the input of the U-Net, where it is to differ from the one that is predicted.",
)
words = _port(
    "words",
    "sum",
    "Word",
    "A word with embeddings of its own (textual inversion), trained or not: `ports.words(Word(text, vectors))`.",
)
unet_call = _port(
    "unet_call",
    "around",
    "(args: UNetArgs, call_next) -> Tensor",
    "The prediction of the U-Net. A stage may add inputs (residuals of a ControlNet) or call it several times.",
    law=laws.like("sample"),
)
loss = _port(
    "loss",
    "sum",
    "(outcome: Outcome) -> Tensor | Mapping[str, Tensor]",
    "One or several terms of the loss, (n,) each, one value for each picture, named after the plugin unless it names "
    "them. Phase base is the loss itself, the mean squared error if nobody contributes to it; phase more adds to it.",
    phases=("base", "more"),
    default_phase="more",
)
loss_weights = _port(
    "loss_weights",
    "chain",
    "(outcome: Outcome, weights: Tensor) -> Tensor | None",
    "What each picture's loss is multiplied by, (n,): min-SNR, the weights of sources.",
)

PORTS = (step, batch, forward, timesteps, noise, noisy, words, unet_call, loss, loss_weights)
