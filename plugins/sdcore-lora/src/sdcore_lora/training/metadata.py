"""What a file says of its training, in the words of kohya's trainer and of modelspec, which many programs read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdcore_train import Job

    from .options import TrainLoRA

TAGS = 200
"""The commonest parts of captions that are kept."""
_LOCAL = ("output", "model", "data", "checkpoints", "samples", "logging", "device", "threads", "distributed")
"""Parts of a configuration that say where something is, and not what is made."""
_BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "refiner": "sdxl_refiner_v1-0"}
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sd2_v": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
    "refiner": "stable-diffusion-xl-v1-refiner",
}


def metadata_of(job: Job, options: TrainLoRA) -> dict[str, str]:
    """The metadata of a file: only names, numbers and captions, no path of the machine, no time.

    So the same training makes the same file.
    """
    config, family = job.config, job.model.family
    v = "_v" if job.prediction == "v_prediction" and family == "sd2" else ""
    height, width = job.size
    found: dict[str, Any] = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": options.rank,
        "ss_network_alpha": options.rank if options.alpha is None else options.alpha,
        "ss_network_dropout": options.dropout or None,
        "ss_network_args": json.dumps(_arguments(options)),
        "ss_base_model_version": _BASES[family] + v,
        "ss_v2": family == "sd2",
        "ss_sd_model_name": Path(job.model.source).name if job.model.source else None,
        "ss_sd_model_hash": job.model.hashes()["unet"][:8],
        "ss_output_name": options.file,
        "ss_seed": config.seed,
        "ss_resolution": f"({width}, {height})",
        "ss_batch_size_per_device": config.batch_size,
        "ss_gradient_accumulation_steps": config.accumulate,
        "ss_gradient_checkpointing": config.gradient_checkpointing,
        "ss_mixed_precision": config.precision,
        "ss_optimizer": config.optimizer.name,
        "ss_learning_rate": config.optimizer.learning_rate,
        "ss_unet_lr": config.optimizer.learning_rate if options.unet else None,
        "ss_text_encoder_lr": _text_rate(job) if options.text_encoder else None,
        "ss_max_grad_norm": config.optimizer.clip,
        "ss_lr_scheduler": config.schedule.name,
        "ss_lr_warmup_steps": config.schedule.warmup,
        "ss_caption_dropout_rate": config.captions.dropout,
        "ss_num_train_images": len(job.data.records),
        "ss_num_batches_per_epoch": job.data.batches_per_epoch,
        "ss_tag_frequency": json.dumps({"data": tag_frequency(one.captions for one in job.data.records)}),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{_ARCHITECTURES[family + v]}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": options.file,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": "v" if job.prediction == "v_prediction" else job.prediction,
        "modelspec.trigger_phrase": options.trigger or None,
        "sdcore_config_sha256": config_hash(config.model_dump(mode="json")),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def tag_frequency(captions: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """How many pictures have a tag (what stands between commas of their captions), the commonest first."""
    counts: Counter[str] = Counter()
    for each in captions:
        counts.update({tag.strip() for caption in each for tag in caption.split(",") if tag.strip()})
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TAGS])


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a training's configuration, without what only says where things are."""
    kept = {name: value for name, value in config.items() if name not in _LOCAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _arguments(options: TrainLoRA) -> dict[str, str]:
    """What kohya's trainer takes as network arguments, and our own."""
    conv = options.conv_rank if options.targets != "linear+conv" else options.conv_rank or options.rank
    given = {
        "conv_dim": conv,
        "conv_alpha": options.conv_alpha,
        "use_dora": options.dora or None,
        "use_rslora": options.rslora or None,
        "targets": options.targets,
        "text_encoder_rank": options.text_encoder_rank,
        "init": options.init if options.init != "default" else None,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def _text_rate(job: Job) -> float:
    own = job.config.optimizer.text_encoder_learning_rate
    return job.config.optimizer.learning_rate if own is None else own
