"""What pictures are compared by. Others can add more under the registry kind ``audit_features``.

A value of that kind is a function of the engine that returns a function from pictures to vectors (pictures, width).
What an audit finds is a difference in these vectors and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore.plugin import nearest

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.engine import Engine

    from .metrics import Vectors

KIND = "audit_features"
Extract = Callable[[Sequence["Image"]], "Vectors"]


def colour(_: Engine) -> Extract:
    """Which colours are where: the mean colour of 4 by 4 fields and a histogram of 4 x 4 x 4 colours (112 numbers)."""
    import numpy as np

    def extract(images: Sequence[Image]) -> Vectors:
        rows = []
        for image in images:
            values = np.asarray(image.convert("RGB").resize((64, 64)), np.float64) / 255
            fields = values.reshape(4, 16, 4, 16, 3).mean(axis=(1, 3)).ravel()
            cells = np.minimum((values.reshape(-1, 3) * 4).astype(int), 3) @ np.array([16, 4, 1])
            rows.append(np.concatenate([fields, np.sqrt(np.bincount(cells, minlength=64) / len(cells))]))
        return np.stack(rows)

    return extract


def nsfwjs(_: Engine) -> Extract:
    """What the classifier ``nsfwjs`` sees before it decides (128 numbers): content and style, rather than colour."""
    import numpy as np

    from sdcore_safety.check import CheckSettings
    from sdcore_safety.checks.nsfwjs import NsfwjsCheck

    check = NsfwjsCheck(CheckSettings())
    return lambda images: np.asarray(check.features(images).numpy(), np.float64)


def vae(engine: Engine) -> Extract:
    """The codec's latents, averaged to 8 by 8 (256 numbers for 4 channels): layout, light and colour."""
    import numpy as np
    import torch

    from sdcore.images import image_to_tensor

    codec: Any = engine.model.vae
    factor = engine.model.vae_scale_factor

    def extract(images: Sequence[Image]) -> Vectors:
        rows = []
        with torch.no_grad():
            for image in images:
                height, width = (max(factor * 8, side // factor * factor) for side in (image.height, image.width))
                pixels = image_to_tensor(image.convert("RGB"), height, width, device=codec.device, dtype=codec.dtype)
                encoded = codec.encode(pixels)
                latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
                rows.append(torch.nn.functional.adaptive_avg_pool2d(latents.float(), 8).flatten().cpu().numpy())
        return np.stack(rows).astype(np.float64)

    return extract


BUILT_IN = {"colour": f"{__name__}:colour", "nsfwjs": f"{__name__}:nsfwjs", "vae": f"{__name__}:vae"}


def extractor(engine: Engine, name: str) -> Extract:
    """The feature extractor of this name.

    Raises:
        RequestError: there is none, or it is no function.
    """
    known = engine.host.registry.all(KIND)
    if name not in known:
        raise RequestError(f"there are no features {name!r}.{nearest(name, known)}")
    value = known[name]
    if isinstance(value, str):
        import importlib

        module, _, attribute = value.partition(":")
        value = getattr(importlib.import_module(module), attribute)
    if not callable(value):
        raise RequestError(f"features {name!r} are {type(value).__name__}, expected a function of the engine")
    extract: Extract = value(engine)
    return extract
