"""The configurations of the published checkpoints: what a single file does not say about itself.

Sizes are read from the tensors (see `shapes`); what is here are the things that leave no trace in a shape:
activation functions, scaling factors, group counts, schedulers.
"""

from __future__ import annotations

from typing import Any

SD1_HEADS = 8
HEAD_WIDTH = 64  # SD2 and SDXL fix the width of a head, SD1 their number

_SPATIAL = {"sample_size": 64, "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu"}

UNET: dict[str, dict[str, Any]] = {
    "sd1": _SPATIAL,
    "sd2": _SPATIAL | {"upcast_attention": True},
    "sdxl": _SPATIAL | {"sample_size": 128},
    "refiner": _SPATIAL | {"sample_size": 128},
}

_CODEC = {"norm_num_groups": 32, "act_fn": "silu"}

VAE: dict[str, dict[str, Any]] = {
    "sd1": _CODEC | {"sample_size": 512, "scaling_factor": 0.18215},
    "sd2": _CODEC | {"sample_size": 768, "scaling_factor": 0.18215},
    "sdxl": _CODEC | {"sample_size": 1024, "scaling_factor": 0.13025},
    "refiner": _CODEC | {"sample_size": 1024, "scaling_factor": 0.13025},
}

# Where the text encoders of each family are in the original layout: component, prefix, and whose layout it is.
TEXT_ENCODERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "sd1": (("text_encoder", "cond_stage_model.transformer.", "openai"),),
    "sd2": (("text_encoder", "cond_stage_model.model.", "openclip"),),
    "sdxl": (
        ("text_encoder", "conditioner.embedders.0.transformer.", "openai"),
        ("text_encoder_2", "conditioner.embedders.1.model.", "openclip"),
    ),
    "refiner": (("text_encoder_2", "conditioner.embedders.0.model.", "openclip"),),
}

PAD_TOKEN = {"openai": "<|endoftext|>", "openclip": "!"}
ACTIVATION = {"openai": "quick_gelu", "openclip": "gelu"}

_BETAS: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
}

_EULER = _BETAS | {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "use_karras_sigmas": False,
}

SCHEDULER: dict[str, dict[str, Any]] = {
    "sd1": _BETAS | {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False},
    "sd2": _BETAS | {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False},
    "sdxl": _EULER,
    "refiner": _EULER,
}

# Pipeline flags, where a folder's model_index.json leaves them out.
PIPELINE: dict[str, dict[str, Any]] = {
    "sd1": {},
    "sd2": {},
    "sdxl": {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False},
    "refiner": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
}
