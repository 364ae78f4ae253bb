"""What a loaded model is: its networks, its tokenizers, and what its files say about using it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.errors import ModelError

from . import hashes

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass(eq=False)
class Model:
    """A Stable Diffusion model in memory. Made by `load_model` and `from_pipeline`.

    Attributes:
        family: "sd1", "sd2", "sdxl" or "refiner".
        unet: the denoiser.
        vae: the codec, an `AutoencoderKL` or an `AutoencoderTiny`.
        text_encoders: one, or two for SDXL (OpenAI's, then OpenCLIP's); the refiner has OpenCLIP's only.
        tokenizers: one for each text encoder.
        scheduler_config: of the scheduler that the model came with, "_class_name" included.
        source: what the user named, or "pipeline".
        defaults: request fields that the model's authors advise, from "sdcore.json" in its folder.
        config: flags of the pipeline, such as "force_zeros_for_empty_prompt".
        weight_files: by component, the files that its weights were read from; none if it was given in memory.
    """

    family: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL | AutoencoderTiny
    text_encoders: tuple[torch.nn.Module, ...]
    tokenizers: tuple[Any, ...]
    scheduler_config: dict[str, Any]
    source: str
    defaults: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    weight_files: dict[str, tuple[Path, ...]] = field(default_factory=dict, repr=False)
    _hashes: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def components(self) -> dict[str, torch.nn.Module]:
        """The networks by the names of diffusers: "unet", "vae", "text_encoder", "text_encoder_2"."""
        first = 2 if self.family == "refiner" else 1
        named: dict[str, torch.nn.Module] = {"unet": self.unet, "vae": self.vae}
        for number, encoder in enumerate(self.text_encoders, start=first):
            named["text_encoder" if number == 1 else f"text_encoder_{number}"] = encoder
        return named

    @property
    def device(self) -> torch.device:
        """Where the U-Net's weights are."""
        device: torch.device = next(self.unet.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the U-Net's weights."""
        dtype: torch.dtype = next(self.unet.parameters()).dtype
        return dtype

    @property
    def latent_channels(self) -> int:
        """Channels of a latent: 4 in the published models."""
        return int(self.vae.config.latent_channels)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels for each side of a latent's element: 8 in the published models."""
        blocks: Sequence[int] = self.vae.config.block_out_channels
        return int(2 ** (len(blocks) - 1))

    @property
    def task(self) -> str:
        """What the U-Net takes besides the noisy latent.

        "text": nothing; "inpaint": a mask and a masked picture's latent (9 channels); "instruct": the latent of
        the picture to change (8 channels).

        Raises:
            ModelError: its channels fit none of these.
        """
        given, latent = int(self.unet.config.in_channels), self.latent_channels
        tasks = {latent: "text", 2 * latent: "instruct", 2 * latent + 1: "inpaint"}
        if given not in tasks:
            raise ModelError(
                f"the U-Net takes {given} channels and latents have {latent}; known are {latent} (text), "
                f"{2 * latent} (instruct) and {2 * latent + 1} (inpaint). Depth and upscaling models are not."
            )
        return tasks[given]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each component, by its name: of its weight file, or of its weights if it has no file.

        A file's hash is remembered on disk. Weights without a file are hashed as they are at the first call, and after
        :meth:`weights_changed` at the next.

        Raises:
            ModelError: a weight file is gone.
        """
        for name, module in self.components.items():
            if name not in self._hashes:
                files = self.weight_files.get(name, ())
                self._hashes[name] = hashes.of_files(files) if files else hashes.of_module(module)
        return dict(self._hashes)

    def weights_changed(self, name: str) -> None:
        """Tell that a component's weights are no longer those of its file, nor those that were hashed.

        Args:
            name: of the component: "unet", "vae", "text_encoder", "text_encoder_2".
        """
        self.weight_files.pop(name, None)
        self._hashes.pop(name, None)
