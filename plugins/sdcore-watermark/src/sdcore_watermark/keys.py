"""Keys: the secret without which a mark can be neither made nor found."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from sdcore import OutputError, RequestError

FORMAT = "sdcore-watermark-key"
SIZE = 32
ENVIRONMENT = "env:"
_PUBLIC = hashlib.sha256(b"sdcore-watermark: a key that everybody knows").digest()


class PublicKeyWarning(UserWarning):
    """Marks are made with the key that is in the source: everybody can find, copy and remove them."""


@dataclass(frozen=True, repr=False)
class Key:
    """A secret of 32 bytes, with the ones that it replaced.

    The newest generation marks; all of them are looked for. Make one with :meth:`generate`, keep it with
    :meth:`save`, and give it to whoever is to find the marks: who can find them can also make and remove them.

    Attributes:
        generations: the secrets, the newest first.
    """

    generations: tuple[bytes, ...]

    def __post_init__(self) -> None:
        for secret in self.generations:
            if not isinstance(secret, bytes) or len(secret) != SIZE:
                size = f"{len(secret)} bytes" if isinstance(secret, bytes) else type(secret).__name__
                raise RequestError(f"a key has {SIZE} bytes, got {size}; make one with Key.generate()")
        if not self.generations:
            raise RequestError("a key needs at least one secret; make one with Key.generate()")

    @classmethod
    def generate(cls) -> Key:
        """A new random key, from the system's generator."""
        return cls((secrets.token_bytes(SIZE),))

    @classmethod
    def public(cls, *, quiet: bool = False) -> Key:
        """The key that is in the source, for trying things out. Warns with :class:`PublicKeyWarning`, unless quiet."""
        if not quiet:
            warnings.warn(
                "marks are made with the public key, which everybody has: make your own with `sdcore watermark keygen`",
                PublicKeyWarning,
                stacklevel=2,
            )
        return cls((_PUBLIC,))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Key:
        """Read a key file.

        Args:
            path: of the file, or ``"env:NAME"``: the variable holds a path or the contents of a key file.

        Raises:
            RequestError: there is no such file or variable, or it holds no key.
        """
        name = os.fspath(path)
        if name.startswith(ENVIRONMENT):
            variable = name.removeprefix(ENVIRONMENT)
            value = os.environ.get(variable)
            if not value:
                raise RequestError(f"the environment variable {variable} is not set: it is to name a key file")
            return cls._parse(value, f"the variable {variable}") if value.lstrip()[:1] == "{" else cls.load(value)
        file = Path(name).expanduser()
        try:
            text = file.read_text("utf-8")
            mode = file.stat().st_mode
        except FileNotFoundError:
            raise RequestError(f"there is no key file {name}: make it with `sdcore watermark keygen {name}`") from None
        except (OSError, ValueError) as error:
            raise RequestError(f"cannot read the key file {name}: {error}") from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            warnings.warn(f"others can read the key file {name}: chmod 600 {name}", UserWarning, stacklevel=2)
        return cls._parse(text, name)

    @classmethod
    def _parse(cls, text: str, what: str) -> Key:
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or content["version"] != 1:
                raise ValueError(f"its format is {content['format']!r}, version {content['version']!r}")
            return cls(tuple(bytes.fromhex(secret) for secret in content["generations"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{what} is no key file of sdcore-watermark ({error})") from error

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a key file that only its owner can read (mode 600). Written whole or not at all.

        Raises:
            OutputError: the name is taken (a lost key is lost for ever: ``overwrite`` is meant for rotation), or the
                folder cannot be written.
        """
        target = Path(os.fspath(path)).expanduser()
        content = {"format": FORMAT, "version": 1, "key_id": self.key_id}
        data = json.dumps(content | {"generations": [secret.hex() for secret in self.generations]}, indent=2) + "\n"
        temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            # Never readable by others, not even until the rights are changed.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if overwrite:
                os.replace(temporary, target)
            else:
                os.link(temporary, target)
        except FileExistsError:
            raise OutputError(f"{target} exists already: choose another name, or --rotate it") from None
        except OSError as error:
            raise OutputError(f"cannot write the key file {target}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return target

    def rotated(self) -> Key:
        """A key with a new secret in front: it marks, and the old ones are still found."""
        return Key((secrets.token_bytes(SIZE), *self.generations))

    def split(self) -> tuple[Key, ...]:
        """One key for each generation."""
        return tuple(Key((secret,)) for secret in self.generations)

    @property
    def key_id(self) -> str:
        """Twelve hex digits that name the newest generation, and tell nothing about the secret."""
        return self._derive(b"key id", 6).hex()

    @property
    def is_public(self) -> bool:
        """Whether it is the one in the source."""
        return self.generations[0] == _PUBLIC

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose (keyed BLAKE2b), from which neither the secret nor another one can be told."""
        return self._derive(purpose.encode(), SIZE)

    def _derive(self, purpose: bytes, size: int) -> bytes:
        return hashlib.blake2b(purpose, digest_size=size, key=self.generations[0], person=b"sdcore-watermrk1").digest()

    def __repr__(self) -> str:
        return f"<Key {self.key_id}, {len(self.generations)} generations>"
