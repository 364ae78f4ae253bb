"""Setting: a small model that plugins are checked on, built once a process, and what cases are made of."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.testing.tiny import tiny_folder

if TYPE_CHECKING:
    from sdcore.models import Model
    from sdcore.result import Result

FAMILIES = ("sd1", "sd2", "sdxl")
EMBEDDED = "embedded"
REQUEST: Mapping[str, Any] = {
    "prompt": "a red cat",
    "negative_prompt": "blue dog",
    "seed": 3,
    "steps": 2,
    "guidance_scale": 3.0,
    "scheduler": "ddim",
}


class Setting:
    """A model to check on. Make it with `setting_of`.

    Attributes:
        family: "sd1", "sd2", "sdxl", or "embedded" for the model that is installed.
        device: such as "cpu".
        size: side of pictures in pixels.
        folder: for the files of cases; removed when the process ends.
    """

    def __init__(self, family: str, source: str | None, device: str, size: int) -> None:
        self.family = family
        self._source = source
        self.device = device
        self.size = size
        self.folder = Path(tempfile.mkdtemp(prefix="sdcore-conformance-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._models: dict[tuple[str, int], Model] = {}
        self._plain: dict[str, Result] = {}

    @property
    def source(self) -> str:
        """A folder, or the name of an installed model."""
        return str(tiny_folder(self.family)) if self._source is None else self._source

    @property
    def model(self) -> Model:
        """The loaded model, float32. Cases may look at it, and must leave it alone."""
        return self.load("float32")

    def load(self, dtype: str, number: int = 0) -> Model:
        """The model in a dtype, loaded once; one of another ``number`` shares nothing with it."""
        from sdcore.models import load_model

        if (dtype, number) not in self._models:
            self._models[dtype, number] = load_model(self.source, device=self.device, dtype=dtype)
        return self._models[dtype, number]

    def picture(self, size: tuple[int, int] | None = None) -> Path:
        """An RGB picture with edges in it, as large as the pictures of this setting, or (width, height)."""
        wide, high = size or (self.size, self.size)

        def draw(path: Path) -> None:
            from PIL import Image, ImageDraw

            image = Image.radial_gradient("L").resize((wide, high)).convert("RGB")
            ImageDraw.Draw(image).rectangle((wide // 4, high // 8, wide * 5 // 8, high // 2), fill=(200, 40, 60))
            image.save(path)

        return self.file(f"picture-{wide}x{high}.png", draw)

    def mask(self) -> Path:
        """A grey picture, white in its right half."""

        def draw(path: Path) -> None:
            from PIL import Image

            image = Image.new("L", (self.size, self.size))
            image.paste(255, (self.size // 2, 0, self.size, self.size))
            image.save(path)

        return self.file("mask.png", draw)

    def file(self, name: str, make: Any) -> Path:
        """``folder / name``, made by ``make(path)`` if it is not there."""
        path = self.folder / name
        if not path.exists():
            make(path)
        return path

    # -- for the checks -------------------------------------------------------------------------------------------

    def request(self, **fields: Any) -> dict[str, Any]:
        """The request of this setting with some fields changed. With a picture, its size decides."""
        size = {} if "image" in fields else {"height": self.size, "width": self.size}
        return {**REQUEST, **size, **fields}

    def plain(self, **fields: Any) -> Result:
        """What a request gives without any plugin; computed once."""
        key = repr(sorted(fields.items()))
        if key not in self._plain:
            from sdcore.engine import Engine

            self._plain[key] = Engine(self.model, plugins=[]).generate(**self.request(**fields))
        return self._plain[key]

    def renew(self) -> None:
        """Load the model anew: something has spoilt it."""
        self._models.clear()
        self._plain.clear()

    def __str__(self) -> str:
        return self.family


@functools.cache
def setting_of(family: str, device: str = "cpu", model: str | None = None) -> Setting:
    """The setting of a family, shared by everything in this process. ``model`` names that of "embedded"."""
    if family == EMBEDDED:
        from sdcore.models.installed import choose_installed

        return Setting(family, model or choose_installed()[0], device, 64)
    return Setting(family, None, device, 32)


def fingerprint(model: Model) -> str:
    """A digest of every weight and buffer, of the tree of module classes, and of what was attached to modules."""
    total = hashlib.sha256()
    for name, component in sorted(model.components.items()):
        for key, value in [*component.named_parameters(), *component.named_buffers()]:
            total.update(f"{name}.{key} {value.dtype} {value.device} {value.requires_grad}".encode())
            total.update(value.detach().cpu().contiguous().view(-1).numpy().data)
        for key, module in component.named_modules():
            # transformers puts hooks of its own on text encoders when hidden states are first asked for
            hooks = sum(len(v) for attribute, v in vars(module).items() if attribute.endswith("_hooks"))
            own = sorted(
                attribute for attribute, value in vars(module).items() if callable(value) and attribute[:1] != "_"
            )
            told = f"{key} {type(module).__qualname__} {module.training} {own} {hooks if name == 'unet' else 0}"
            total.update(told.encode())
    return total.hexdigest()
