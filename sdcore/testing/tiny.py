"""Small random models: a few milliseconds a step, yet every part of the real families is there.

They are written as diffusers folders, so that the same files are loaded by sdcore and by the diffusers
pipeline class of the family. Each U-Net has a down path, a middle and an up path with skip connections, and
cross-attention at two levels; the codec has a factor of 4, so that nothing can lean on 8.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FAMILIES = ("sd1", "sd2", "sdxl", "refiner")
WORDS = (
    *("a", "an", "the", "of", "on", "in", "and", "with", "photo", "picture", "icon", "red", "blue", "green"),
    *("apple", "cat", "dog", "face", "house", "style", "flat"),
)

_PIPELINES = {  # by family and by the kind of U-Net: 4 channels, 9 (inpaint), 8 (instruct)
    ("sd1", 4): "StableDiffusionPipeline",
    ("sd1", 9): "StableDiffusionInpaintPipeline",
    ("sd1", 8): "StableDiffusionInstructPix2PixPipeline",
    ("sdxl", 4): "StableDiffusionXLPipeline",
    ("sdxl", 9): "StableDiffusionXLInpaintPipeline",
    ("sdxl", 8): "StableDiffusionXLInstructPix2PixPipeline",
    ("refiner", 4): "StableDiffusionXLImg2ImgPipeline",
}


def tiny_folder(family: str, **settings: Any) -> Path:
    """A folder made by `save_tiny` with these settings, made once per process and removed at its end."""
    return _tiny_folder(family, tuple(sorted(settings.items())))


@functools.cache
def _tiny_folder(family: str, settings: tuple[tuple[str, Any], ...]) -> Path:
    top = Path(tempfile.mkdtemp(prefix=f"sdcore-tiny-{family}-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    return save_tiny(top / family, family, **dict(settings))


def save_tiny(
    folder: str | Path,
    family: str = "sd1",
    *,
    prediction_type: str = "epsilon",
    in_channels: int = 4,
    seed: int = 0,
    positions: int = 77,
    vocabulary: str = "small",
    dtype: str = "float32",
) -> Path:
    """Write a small random model of one family as a diffusers folder.

    Args:
        folder: where to; made if absent.
        family: "sd1", "sd2", "sdxl" or "refiner".
        prediction_type: what its U-Net is said to predict: "epsilon", "v_prediction" or "sample".
        in_channels: of the U-Net: 4, 9 (inpaint) or 8 (instruct).
        seed: of the weights. The global generators are left alone.
        positions: the window of the text encoders, in tokens, start and end included.
        vocabulary: "small" (some English words and all bytes) or "clip" (the 49,408 tokens of CLIP).
        dtype: of the files, such as "float16".

    Returns:
        The folder.

    Raises:
        ValueError: the family is not known.
    """
    import torch

    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; expected one of {', '.join(FAMILIES)}")
    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _components(family, in_channels, positions, vocabulary)
    for name, part in parts.items():
        if name.startswith("tokenizer"):
            part.save_pretrained(folder / name)
        else:
            _save_weights(folder / name, part, getattr(torch, dtype))
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config(family, prediction_type))
    write_json(folder / "model_index.json", _model_index(family, in_channels))
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def scheduler_config(family: str, prediction_type: str) -> dict[str, Any]:
    """The scheduler of the published checkpoints of a family: PNDM, DDIM or Euler."""
    common: dict[str, Any] = {
        "_diffusers_version": "0.42.1",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": prediction_type,
        "clip_sample": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": None,
    }
    if family == "sd1":
        return common | {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}
    if family == "sd2":
        return common | {"_class_name": "DDIMScheduler", "set_alpha_to_one": False}
    return common | {
        "_class_name": "EulerDiscreteScheduler",
        "interpolation_type": "linear",
        "use_karras_sigmas": False,
    }


def tiny_tokenizer(positions: int = 77, pad_token: str = "<|endoftext|>", vocabulary: str = "small") -> Any:
    """A CLIP tokenizer: its own small vocabulary (bytes and some words), or that of CLIP."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    from sdcore.models.tokenizer import byte_alphabet, clip_tokenizer

    if vocabulary == "clip":
        return clip_tokenizer(positions, pad_token)
    letters = byte_alphabet()
    tokens = letters + [letter + "</w>" for letter in letters]
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for i in range(1, len(pieces)):
            merges["".join(pieces[:i]), pieces[i]] = None
    tokens = list(dict.fromkeys([*tokens, *(left + right for left, right in merges)]))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=list(merges), pad_token=pad_token, model_max_length=positions)


def _save_weights(folder: Path, module: Any, dtype: torch.dtype) -> None:
    """A module as published checkpoints hold it: CLIP's keys under "text_model.", whatever the class says."""
    from safetensors.torch import save_file

    weights = {key: value.detach().to(dtype).contiguous() for key, value in module.state_dict().items()}
    text = type(module).__name__.startswith("CLIP")
    if type(module).__name__ == "CLIPTextModel":
        weights = {"text_model." + key.removeprefix("text_model."): value for key, value in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    module.config.save_pretrained(folder) if text else module.save_config(folder)
    name = "model.safetensors" if text else "diffusion_pytorch_model.safetensors"
    save_file(weights, folder / name, metadata={"format": "pt"})


def _components(family: str, in_channels: int, positions: int, vocabulary: str) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if family != "refiner":
        pad = "!" if family == "sd2" else "<|endoftext|>"
        parts["tokenizer"] = tiny_tokenizer(positions, pad, vocabulary)
        act = "gelu" if family == "sd2" else "quick_gelu"
        parts["text_encoder"] = _text_encoder(parts["tokenizer"], positions, 64, act)
    if family in ("sdxl", "refiner"):
        parts["tokenizer_2"] = tiny_tokenizer(positions, "!", vocabulary)
        parts["text_encoder_2"] = _text_encoder(parts["tokenizer_2"], positions, 128, "gelu", projected=True)
    parts["unet"] = _unet(family, in_channels)
    parts["vae"] = _vae(0.13025 if family in ("sdxl", "refiner") else 0.18215)
    return parts


def _text_encoder(tokenizer: Any, positions: int, width: int, act: str, projected: bool = False) -> Any:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=3,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=positions,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    model.config.architectures = [type(model).__name__]
    _spread(model)
    return model


def _unet(family: str, in_channels: int) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": in_channels,
        "out_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 32,
        "block_out_channels": (32, 64, 64),
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    if family == "sd2":
        config |= {"block_out_channels": (32, 64, 128), "attention_head_dim": (1, 1, 2)}
        config |= {"use_linear_projection": True}
    if family in ("sdxl", "refiner"):
        config |= {
            "block_out_channels": (32, 64, 128),
            "attention_head_dim": (1, 1, 2),
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 1, 2),
            "cross_attention_dim": 64 + 128 if family == "sdxl" else 128,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 128 + 8 * (6 if family == "sdxl" else 5),
        }
    unet = UNet2DConditionModel(**config)
    _spread(unet, gain=1.5)
    return unet


def _vae(scaling_factor: float) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),
        layers_per_block=1,
        norm_num_groups=32,
        sample_size=64,
        scaling_factor=scaling_factor,
    )
    _spread(vae)
    return vae


def _spread(model: torch.nn.Module, gain: float = 1.0) -> None:
    """Random weights that keep the size of a signal: matrices by their fan-in, norms near one."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                fan_in = weight.shape[1:].numel()
                torch.nn.init.normal_(weight, std=0.5 if "embedding" in name else gain / fan_in**0.5)
            elif name.endswith("weight"):
                torch.nn.init.uniform_(weight, 0.8, 1.2)
            else:
                torch.nn.init.normal_(weight, std=0.1)


def _model_index(family: str, in_channels: int) -> dict[str, Any]:
    wide = family in ("sdxl", "refiner")
    pipeline = _PIPELINES[("sd1" if family == "sd2" else family), in_channels]
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.42.1"}
    scheduler = scheduler_config(family, "epsilon")["_class_name"]
    index |= {
        "scheduler": ["diffusers", scheduler],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"] if family != "refiner" else [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"] if family != "refiner" else [None, None],
    }
    if wide:
        index |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": family == "sdxl",
        }
        if "InstructPix2Pix" not in pipeline:
            index |= {"image_encoder": [None, None], "feature_extractor": [None, None]}
        if "Img2Img" in pipeline or "Inpaint" in pipeline:
            index["requires_aesthetics_score"] = family == "refiner"
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        index |= {"image_encoder": [None, None], "requires_safety_checker": False}
    return index
