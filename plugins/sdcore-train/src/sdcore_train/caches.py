"""What is computed once for the whole training: latents, and encoded captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .job import Job

TEXT_LIMIT = 1 << 30
"""Bytes of encoded captions that are kept in memory."""


def folder_of(job: Job) -> Path:
    """Where caches on disk are."""
    return Path(job.config.pictures.cache_folder or job.output / "cache")


def may_cache_latents(job: Job) -> bool:
    """Whether each picture has the same latent whenever it is visited."""
    pictures = job.config.pictures
    return pictures.cache != "off" and pictures.crop != "random" and not job.trains("vae")


def cache_latents(job: Job) -> None:
    """Encode all pictures once."""
    if may_cache_latents(job):
        key = {"vae": job.model.hashes()["vae"], "dtype": str(job.model.vae.dtype)}
        job.data.cache_latents(
            job.moments_of, key, job.progress, process=job.process, wait=job.accelerator.wait_for_everyone
        )


def cache_text(job: Job) -> None:
    """Remember encoded captions."""
    if not (job.config.captions.cache and job.text.frozen) or job.trains("vae"):
        return
    from .data import TextMemory

    hashes = {name: value for name, value in job.model.hashes().items() if name.startswith("text_encoder")}
    hashes["dtype"] = str(next(job.model.text_encoders[0].parameters()).dtype)
    disk = folder_of(job) / "text" if job.config.pictures.cache == "disk" else None

    def encode(captions: Sequence[str]) -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in job.text.encode(captions).items()}

    job.text.memory = TextMemory(encode, disk, hashes, TEXT_LIMIT)
