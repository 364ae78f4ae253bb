"""Networks of transformers for depth and segmentation: found, loaded, kept; the two used last stay in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import ModelError
from sdcore.models import find_source
from sdcore.quiet import quiet

from .arrays import Pixels

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Network:
    """A network and what prepares pictures for it.

    Attributes:
        model: of transformers, in eval mode.
        processor: its image processor.
        config: of the model.
    """

    model: Any
    processor: Any
    config: Any

    def __call__(self, pixels: Pixels) -> Any:
        """What the model returns for one picture (height, width, 3).

        Raises:
            ModelError: it cannot take what its own image processor makes, or there is not enough memory.
        """
        import torch

        try:
            with torch.inference_mode(), quiet():
                inputs = self.processor(images=pixels, return_tensors="pt")
                return self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().partition("\n")[0][:300]
            name = self.config.name_or_path or self.config.model_type
            raise ModelError(f"{name} failed on the picture: {first}. Try another `resolution`") from error


def load(source: str, kind: str, what: str, device: str) -> Network:
    """A network from a folder or the hub.

    Args:
        source: a folder with config.json, preprocessor_config.json and safetensors weights, or a hub id.
        kind: the class of transformers, such as ``"AutoModelForDepthEstimation"``.
        what: how messages name it, such as "depth network".
        device: as a user writes it; "auto" is CUDA where there is one.

    Raises:
        ModelError: it is not there, not of this kind, or damaged.
    """
    folder = find_source(source, what)
    if folder.is_file():
        raise ModelError(f"{source}: a {what} is a folder with config.json and safetensors weights, not one file")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{source}: has no config.json, so it is no {what} of transformers")
    return _load(folder, kind, what, str(_device(device)))


@lru_cache(maxsize=2)
def _load(folder: Path, kind: str, what: str, device: str) -> Network:
    import transformers

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = getattr(transformers, kind).from_pretrained(
                folder, config=config, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise ModelError(
            f"{folder}: cannot be loaded as a {what} ({type(error).__name__}: {first}). It needs config.json, "
            f"preprocessor_config.json and safetensors weights of a model that transformers' {kind} knows"
        ) from error
    return Network(model.eval().to(device), processor, config)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device {name!r}: use auto, cpu, cuda, cuda:1, ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {name!r}: this torch sees no CUDA device; use cpu or auto")
    return device
