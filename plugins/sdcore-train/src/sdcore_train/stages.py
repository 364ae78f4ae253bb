"""What the stages of a training are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .records import Batch

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module, Parameter

    from sdcore.stages import Conditioning

    from .job import Job


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights that a plugin wants to have trained.

    Attributes:
        name: of the network: "unet", "vae", "text_encoder", "text_encoder_2", or one that the plugin brings; stages
            find it as ``job.networks[name]``.
        module: the network. It may be given several times with other parameters, rates and decays.
        parameters: the trained ones by name, as in ``module.named_parameters()``; all others are frozen.
        learning_rate: None is the configuration's.
        weight_decay: None is the configuration's.
        called: whether stages call the module itself; if not (a holder of vectors), its gradients are exchanged
            between processes by hand.
        label: of these parameters in messages; the network's name if there is only one entry for it.
    """

    name: str
    module: Module
    parameters: Mapping[str, Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None
    called: bool = True
    label: str = ""


@dataclass(frozen=True, eq=False)
class TrainStep:
    """Where a training is.

    Attributes:
        job: the training.
        index: of the update, from 0.
        steps: updates in all.
        micro: of the micro-batch within the update.
    """

    job: Job
    index: int
    steps: int
    micro: int = 0

    @property
    def number(self) -> int:
        """Of the micro-batch since the start."""
        return self.index * self.job.config.accumulate + self.micro

    def generator(self, purpose: str) -> Generator:
        """A CPU generator that depends on the seed, the purpose and the micro-batch only.

        So a resumed training draws what an uninterrupted one would have drawn, and nothing has to be saved.
        """
        from .randomness import generator

        return generator(self.job.config.seed, purpose, self.number, self.job.process)


@dataclass(frozen=True, eq=False)
class NoiseArgs:
    """For the ports ``noise`` and ``noisy``: what the noise is for.

    Attributes:
        step: where the training is.
        latents: (n, c, h, w), scaled, on the CPU or the device.
        timesteps: (n,) int64.
        generator: a CPU generator for whatever is drawn; one for each port.
    """

    step: TrainStep
    latents: Tensor
    timesteps: Tensor
    generator: Generator


@dataclass(frozen=True, eq=False)
class UNetArgs:
    """One call of the U-Net.

    Attributes:
        step: where the training is.
        batch: what it is made of.
        sample: (n, c, h, w) noisy latents; an inpainting U-Net's mask and masked latents are not in it.
        timesteps: (n,) int64.
        conditioning: as ``sdcore.Conditioning``, n of each.
        arguments: other arguments of the U-Net's forward: ``down_block_additional_residuals``, ...
    """

    step: TrainStep
    batch: Batch
    sample: Tensor
    timesteps: Tensor
    conditioning: Conditioning
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What ``forward`` made of a batch, and what terms of the loss are made of.

    Attributes:
        step: where the training is.
        batch: what it is made of.
        prediction: (n, c, h, w): the U-Net's prediction, or the VAE's reconstruction.
        target: what it should be, of the same shape.
        kind: "epsilon", "v_prediction", "sample", or "picture" for a VAE.
        latents, noise, noisy: (n, c, h, w); None for a VAE.
        timesteps: (n,) int64, or None.
        snr: (n,) signal-to-noise ratio alpha^2 / sigma^2 of the timesteps, or None.
        conditioning: of the U-Net, or None.
        posterior: of a VAE, diffusers' DiagonalGaussianDistribution, or None.
        predict: the U-Net call again with other arguments, or None.
    """

    step: TrainStep
    batch: Batch
    prediction: Tensor
    target: Tensor
    kind: str
    latents: Tensor | None = None
    noise: Tensor | None = None
    noisy: Tensor | None = None
    timesteps: Tensor | None = None
    snr: Tensor | None = None
    conditioning: Conditioning | None = None
    posterior: Any = None
    predict: Callable[[UNetArgs], Tensor] | None = None

    @property
    def masks(self) -> Tensor | None:
        """Masks of the batch on the prediction's device, or None: distances take them."""
        masks = self.batch.masks
        return None if masks is None else masks.to(self.prediction.device)
