"""The data folder: pictures, thumbnails and uploads, one process at a time."""

from __future__ import annotations

import fcntl
import io
from pathlib import Path
from typing import IO

from PIL import Image

from sdcore.files import make_folder, write_atomic

THUMBNAIL = 256


class DataFolder:
    """A folder with the database and the files.

    A file is written beside its place and renamed before its row is committed, and its row is deleted before it is; so
    a row always has its files, and a file without a row is left from a crash and removed at the next start.

    Raises:
        BlockingIOError: another process serves this folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = make_folder(root).resolve()
        self.pictures = make_folder(self.root / "pictures")
        self.thumbnails = make_folder(self.root / "thumbnails")
        self.uploads = make_folder(self.root / "uploads")
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep other servers out, until the process ends, however it ends."""
        self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise

    def unlock(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def picture(self, picture: str) -> Path:
        """Where a picture is; ``picture`` is an id out of the database."""
        return self.pictures / f"{picture}.png"

    def thumbnail(self, picture: str) -> Path:
        """Where its thumbnail is."""
        return self.thumbnails / f"{picture}.webp"

    def write_picture(self, picture: str, data: bytes, image: Image.Image) -> None:
        """Write a picture and its thumbnail; a second attempt of a job writes over those of the first."""
        write_atomic(self.thumbnail(picture), webp(image), overwrite=True)
        write_atomic(self.picture(picture), data, overwrite=True)

    def remove_picture(self, picture: str) -> None:
        """Remove both files."""
        self.picture(picture).unlink(missing_ok=True)
        self.thumbnail(picture).unlink(missing_ok=True)

    def sweep(self, pictures: set[str], uploads: set[str]) -> None:
        """Remove what no row names: what a crash left.

        Args:
            pictures: ids that have a row.
            uploads: paths below ``uploads`` that have one.
        """
        for folder in (self.pictures, self.thumbnails):
            for file in folder.iterdir():
                if file.stem not in pictures or file.name.startswith("."):
                    file.unlink()
        for file in self.uploads.rglob("*"):
            if file.is_file() and file.relative_to(self.uploads).as_posix() not in uploads:
                file.unlink()


def webp(image: Image.Image, side: int = THUMBNAIL, quality: int = 80) -> bytes:
    """A picture, at most ``side`` pixels wide and high, as WebP."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=quality)
    return out.getvalue()
