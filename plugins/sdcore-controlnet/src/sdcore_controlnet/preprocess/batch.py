"""Preprocessing of files: which pictures, and where the results go; both are known before any work is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore import ImageError, Options, OutputError, RequestError
from sdcore.files import check_writable, make_folder, next_free_name, write_atomic
from sdcore.picture_files import encode_image, format_of
from sdcore.preprocessing import Preprocessor

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Of files that are taken from a folder. A file that is named itself may have any name."""


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """The files that were named, and the pictures in the folders that were named, sorted within each folder.

    Raises:
        ImageError: a path is neither file nor folder, or a folder holds no picture.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise ImageError(f"the folder {text} holds no pictures ({', '.join(SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ImageError(f"there is no picture or folder {text}: check the path")
    return found


class Outputs:
    """Where results go: a file for one picture; for several, or without ``out``, a folder with one file for each.

    Raises:
        OutputError: a name is taken, its format is not known, or the place cannot be written.
    """

    def __init__(self, out: str | None, name: str, pictures: Sequence[Path], overwrite: bool) -> None:
        self._overwrite = overwrite
        self._name = name
        self._folder: Path | None = None
        self._file: Path | None = None
        path = Path(out or ".").expanduser()
        if out is None or out.endswith("/") or path.is_dir() or not path.suffix:
            self._folder = make_folder(path)
            check_writable(self._folder / ".sdcore-check.png", overwrite=True)
        elif len(pictures) > 1:
            raise OutputError(
                f"{out!r} is one file, and there are {len(pictures)} pictures: name a folder ({path.stem}/)"
            )
        else:
            self._file = path
            format_of(path)
            check_writable(path, overwrite)

    def write(self, source: Path, image: Image) -> Path:
        """Write the result for one picture."""
        if self._file is not None:
            return write_atomic(self._file, encode_image(image, format_of(self._file), None), overwrite=self._overwrite)
        folder, stem = self._folder or Path(), f"{source.stem}-{self._name}"
        data = encode_image(image, "png", None)
        if self._overwrite:
            return write_atomic(folder / f"{stem}.png", data, overwrite=True)
        return write_atomic(next_free_name(folder, stem, ".png"), data)


def preprocess_files(
    preprocessor: Preprocessor, options: Options | None, pictures: Sequence[Path], outputs: Outputs
) -> Iterator[Path]:
    """Preprocess files one after the other, and yield the path of each result.

    With several pictures there is a progress bar, and one that cannot be read is complained of and left out.
    """
    from sdcore.cli.kit import complain, open_bar
    from sdcore.images import load_image

    bar = open_bar(len(pictures), "picture") if len(pictures) > 1 else None
    try:
        for path in pictures:
            try:
                image = load_image(path)
            except ImageError as error:
                if len(pictures) == 1:
                    raise
                complain(f"left out: {error}")
            else:
                yield outputs.write(path, preprocessor.run(image, options))
            if bar is not None:
                bar.update(1)
    finally:
        if bar is not None:
            bar.close()


def write_sheet(source: str, out: str | None, known: Mapping[str, Preprocessor], overwrite: bool) -> Path:
    """Write one sheet of what all preprocessors that work here make of a picture with their usual options."""
    from sdcore.images import load_image

    if out is None:
        raise RequestError("--sheet needs --out FILE, such as -o sheet.png")
    form = format_of(out)
    check_writable(out, overwrite)
    return write_atomic(out, encode_image(sheet(load_image(source), known), form, None), overwrite=overwrite)


def sheet(image: Image, known: Mapping[str, Preprocessor]) -> Image:
    """A labelled grid of the picture and of what every preprocessor that works here makes of it."""
    from sdcore.cli.kit import open_bar
    from sdcore.images import contact_sheet

    # `passthrough` would show the picture once more, and `normal` would take it for a depth picture.
    working = [found for found in known.values() if not found.needs and found.name not in ("passthrough", "normal")]
    bar = open_bar(len(working), "picture")
    pictures, labels = [image], ["the picture"]
    try:
        for found in working:
            pictures.append(found.run(image, found.options() if found.options else None))
            labels.append(found.name)
            if bar is not None:
                bar.update(1)
    finally:
        if bar is not None:
            bar.close()
    long = max(image.size)
    cell = (round(320 * image.width / long), round(320 * image.height / long))
    return contact_sheet(pictures, labels=labels, cell=cell, columns=4)
