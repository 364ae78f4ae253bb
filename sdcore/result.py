"""Result: the pictures of a request, their records, and how they become files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RequestError
from .file_names import numbered
from .files import check_writable, write_atomic
from .picture_files import format_name
from .stages import Verdict

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .record import Record
    from .request import GenerateRequest
    from .trace import Trace


@dataclass(eq=False)
class OnePicture:
    """A finished picture with everything that is known about it.

    Attributes:
        image: RGB.
        seed: its seed; ``index`` is its place in the request.
        reports: what plugins report about it, by plugin; JSON values.
        verdicts: safety verdicts that flag it.
    """

    image: Image
    seed: int
    index: int
    reports: Mapping[str, Mapping[str, Any]]
    verdicts: tuple[Verdict, ...]
    _make_record: Callable[[], Record] = field(repr=False)
    _encode: Callable[[Image, str, Record, int], bytes] = field(repr=False)

    @cached_property
    def record(self) -> Record:
        """Everything needed to make the picture again. The first access hashes the model's files."""
        return self._make_record()

    def encode(self, format: str = "png", *, quality: int = 95) -> bytes:
        """The picture as a file's bytes, with its record inside, sealed if a plugin seals.

        Args:
            format: "png", "jpeg", "webp", or one that a plugin has registered as an ``image_format``. Only PNG
                keeps every pixel.
            quality: of JPEG and WebP, 1 to 100.

        Raises:
            OutputError: the format is not known, or cannot hold the picture. PluginError: a plugin failed.
        """
        return self._encode(self.image, format, self.record, quality)


@dataclass(frozen=True)
class WithheldPicture:
    """A picture that a safety verdict kept back: its seed, its place, the verdicts, the most severe first."""

    seed: int
    index: int
    verdicts: tuple[Verdict, ...]


@dataclass(eq=False)
class Result:
    """What a request gave.

    Attributes:
        request: the complete request, defaults filled in and seeds drawn.
        pictures: the pictures that may leave, in the order of the seeds.
        latents: (pictures, channels, height, width) after the last step, of the released pictures; NaN where a safety
            check has covered up the picture, by blurring it, say.
        withheld: pictures that a safety verdict kept back.
        lost_tokens: words of the prompt that did not fit (``long_prompt="cut"``).
        trace: what each plugin did, if ``trace=True`` asked for it. No part of the record.
    """

    request: GenerateRequest
    pictures: tuple[OnePicture, ...]
    latents: Tensor
    withheld: tuple[WithheldPicture, ...] = ()
    lost_tokens: tuple[str, ...] = ()
    trace: Trace | None = None

    @property
    def images(self) -> list[Image]:
        """The pictures as PIL images; empty for ``output="latent"``."""
        return [picture.image for picture in self.pictures]

    @property
    def image(self) -> Image:
        """The first picture."""
        if not self.pictures:
            raise RequestError("there is no picture: output is 'latent' (see result.latents), or all were withheld")
        return self.pictures[0].image

    @property
    def seeds(self) -> list[int]:
        """The seeds of ``images``."""
        return [picture.seed for picture in self.pictures]

    @property
    def record(self) -> Record:
        """The record of the first picture; ``pictures[i].record`` for the others."""
        _ = self.image
        return self.pictures[0].record

    @property
    def reports(self) -> list[Mapping[str, Mapping[str, Any]]]:
        """What plugins report, one mapping a picture: plugin name to JSON values."""
        return [picture.reports for picture in self.pictures]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, quality: int = 95) -> list[Path]:
        """Write the pictures; of a request for several, each gets its number (``cat-1.png``, ``cat-2.png``).

        The number is the picture's place in the request, so one that was withheld leaves a gap. Every file is
        written beside its place and then renamed: there is never half a file.

        Args:
            path: where to; the suffix (.png, .jpg, .webp, or that of a format that a plugin brings) decides.
            overwrite: replace files that exist; without it a taken name is an error.
            quality: of JPEG and WebP.

        Returns:
            The files written.

        Raises:
            OutputError: a name is taken, the folder cannot be written, the disk is full.
        """
        _ = self.image
        paths = [numbered(Path(path), picture.index, self.request.count) for picture in self.pictures]
        for target in paths:
            check_writable(target, overwrite)
        return [
            write_atomic(target, picture.encode(format_name(path), quality=quality), overwrite=overwrite)
            for target, picture in zip(paths, self.pictures, strict=True)
        ]
