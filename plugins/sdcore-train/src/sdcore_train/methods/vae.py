"""Training of the VAE: reconstruction and Kullback-Leibler divergence (arXiv 2112.10752, appendix G)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sdcore import Contributions, Options
from sdcore_train import ports
from sdcore_train.hooks import Training
from sdcore_train.lazy import losses as functions
from sdcore_train.model_folder import in_the_way, save_model
from sdcore_train.records import Batch
from sdcore_train.stages import Outcome, Trained, TrainStep

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore_train.job import Job


class VAE(Options):
    """How the VAE is trained."""

    kl: float = Field(
        default=1e-6, ge=0, description="weight of the Kullback-Leibler divergence, per element of the picture"
    )
    reconstruction: Literal["l1", "mse"] = Field(default="l1", description="distance of the pictures")
    part: Literal["all", "decoder"] = Field(default="all", description="decoder leaves the latents as they are")
    sample: bool = Field(default=True, description="decode a sample of the latents' Gaussian; false decodes its mean")
    measure: int = Field(default=1024, ge=1, description="pictures whose latents decide the scaling factor afterwards")
    dtype: Literal["float32", "float16", "bfloat16"] = Field(default="float16", description="of the stored weights")


class VAETraining(Training):
    """Trains the codec; writes a model folder with the scaling factor that its latents ask for."""

    name = "vae"
    Options = VAE
    command = True
    writes_model = True
    about = "train the VAE"
    options: VAE

    def check(self, job: Job) -> Iterable[str]:
        """An AutoencoderKL is needed."""
        if type(job.model.vae).__name__ != "AutoencoderKL":
            yield f"vae: the model's codec is an {type(job.model.vae).__name__}; only an AutoencoderKL is trained"
        if job.config.distributed == "fsdp":
            yield "vae: distributed is 'fsdp', and a VAE is small enough to be whole in every process; use ddp"
        yield from in_the_way(job, "model")

    def parameters(self, job: Job) -> Iterable[Trained]:
        """All of it, or the decoder."""
        vae = job.model.vae
        wanted = ("decoder.", "post_quant_conv.") if self.options.part == "decoder" else ("",)
        yield Trained("vae", vae, {k: v for k, v in vae.named_parameters() if k.startswith(wanted)})

    def stages(self, job: Job) -> Contributions:
        """Reconstruct instead of denoise; the loss is ours."""
        return [ports.forward(self._forward), ports.loss(self._loss, phase="base")]

    def _forward(self, step: TrainStep, batch: Batch) -> Outcome:
        vae: Any = step.job.networks["vae"]
        inner: Any = step.job.model.vae
        assert batch.pixels is not None
        pixels = batch.pixels.to(step.job.device)
        kept: list[Any] = []

        # The networks are called as one, through the wrapped module's forward, so that processes can share it.
        handle = inner.quant_conv.register_forward_hook(lambda _m, _a, moments: kept.append(moments)) if (
            inner.quant_conv is not None
        ) else inner.encoder.register_forward_hook(lambda _m, _a, moments: kept.append(moments))  # fmt: skip
        try:
            generator = _on(step.generator("posterior"), step.job.device)
            picture = vae(pixels, sample_posterior=self.options.sample, generator=generator, return_dict=False)[0]
        finally:
            handle.remove()
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        return Outcome(step, batch, picture, pixels, "picture", posterior=DiagonalGaussianDistribution(kept[0]))

    def _loss(self, outcome: Outcome) -> dict[str, Tensor]:
        distance = {"l1": functions.l1, "mse": functions.mse}[self.options.reconstruction]
        terms: dict[str, Tensor] = {
            self.options.reconstruction: distance(outcome.prediction.float(), outcome.target, outcome.masks)
        }
        if self.options.part == "all" and self.options.kl:
            elements = outcome.target[0].numel()
            terms["kl"] = outcome.posterior.kl() * self.options.kl / elements
        return terms

    def samples(self, job: Job) -> Sequence[tuple[str, Sequence[Image]]]:
        """Pictures of the data and what becomes of them."""
        import torch

        from sdcore.images import tensors_to_images

        with closing(job.data.stream(0)) as stream:  # type: ignore[type-var]
            batch = next(stream)
        assert batch.pixels is not None
        pixels = batch.pixels[:8].to(job.device)
        vae: Any = job.model.vae
        with torch.no_grad():
            again = vae.decode(vae.encode(pixels).latent_dist.mean).sample
        return [("picture", tensors_to_images(pixels)), ("through the VAE", tensors_to_images(again))]

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The model with the trained VAE as a folder, ``model``."""
        import torch

        vae: Any = job.model.vae
        if self.options.part == "all":
            vae.register_to_config(scaling_factor=1.0 / self._deviation(job))
        yield save_model(job.model, folder / "model", dtype=getattr(torch, self.options.dtype), before=job.before)

    def _deviation(self, job: Job) -> float:
        """Standard deviation of the latents over pictures of the data (arXiv 2112.10752, appendix G)."""
        import torch

        found, count = [], 0
        with closing(job.data.stream(0)) as stream:  # type: ignore[type-var]
            while count < self.options.measure:
                batch = next(stream)
                assert batch.pixels is not None
                found.append(job.moments_of(batch.pixels).chunk(2, dim=1)[0].flatten())
                count += len(batch)
        return float(torch.cat(found).std())


def _on(generator: Any, device: Any) -> Any:
    """The generator, or one on a GPU that is seeded from it: the VAE draws where its latents are."""
    import torch

    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
