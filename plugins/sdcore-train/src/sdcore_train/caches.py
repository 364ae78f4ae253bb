"""What is computed once for the whole training: latents, and encoded captions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .monitor.memory import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from .job import Job

TEXT_LIMIT = 1 << 30
"""Bytes of encoded captions that are kept in memory."""
DISK_LIMIT = 8 << 30
"""Bytes of encoded captions that are kept on disk."""


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
    hashes["precision"] = job.config.precision
    hashes["tokenizers"] = _digest(_tokens_of(tokenizer) for tokenizer in job.model.tokenizers)
    hashes["zeros"] = str(bool(job.model.config.get("force_zeros_for_empty_prompt")))

    def encode(captions: Sequence[str]) -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in job.text.encode(captions).items()}

    disk = folder_of(job) / "text" if job.config.pictures.cache == "disk" and _fits(job, encode) else None
    job.text.memory = TextMemory(encode, disk, hashes, TEXT_LIMIT)


def _fits(job: Job, encode: Callable[[Sequence[str]], dict[str, Tensor]]) -> bool:
    """Whether all encoded captions are few enough for the disk."""
    import torch

    captions = job.config.captions
    if captions.shuffle or captions.tag_dropout:
        return False  # almost every visit has a caption of its own, which is never read again
    with torch.no_grad():
        each = sum(value.nbytes for value in encode([""]).values())
    count = len({caption for record in job.data.records for caption in record.captions})
    if count * each <= DISK_LIMIT:
        return True
    job.say(f"{count:,} encoded captions would take {readable(count * each)}: they are kept in memory only")
    return False


def _tokens_of(tokenizer: Any) -> str:
    """What a tokenizer makes of words depends on: its class, its vocabulary, its special tokens."""
    words = sorted(tokenizer.get_vocab().items())
    return json.dumps([type(tokenizer).__name__, words, tokenizer.special_tokens_map], default=str)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()
