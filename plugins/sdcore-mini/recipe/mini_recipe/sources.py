"""The npm packages that hold the icons and their names: fetched once, checked, and read from the archive."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_REGISTRY = "https://registry.npmjs.org/"


class SourceError(Exception):
    """A package could not be fetched or is not the one that the recipe was written for."""


@dataclass(frozen=True)
class Package:
    """One npm package at one version. ``sha256`` is that of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        """The archive's file name in the registry."""
        return f"{self.name.rpartition('/')[2]}-{self.version}.tgz"

    @property
    def cached(self) -> str:
        """The archive's file name in the cache; the scope keeps two packages of one name apart."""
        return f"{self.name.replace('@', '').replace('/', '-')}-{self.version}.tgz"


PACKAGES = {
    "gradient": Package(
        "@iconify-json/fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"
    ),
    "flat": Package(
        "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
    ),
    "line art": Package(
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
    ),
    "noto": Package("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "3d": Package(
        "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
    ),
    "names": Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
    "keywords": Package(
        "cldr-annotations-full", "48.2.0", "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"
    ),
}


def default_cache() -> Path:
    """Where archives and rasterised icons are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sdcore-mini"


def registry() -> str:
    """The npm registry of this machine: the environment's, npm's own setting, or the public one."""
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(variable):
            return os.environ[variable].rstrip("/") + "/"
    npm = shutil.which("npm")
    if npm:
        found = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip().startswith("http"):
            return found.stdout.strip().rstrip("/") + "/"
    return DEFAULT_REGISTRY


def fetch(package: Package, cache: Path, base: str | None = None) -> Path:
    """The package's archive in ``cache``; fetched if it is not there, refused if its checksum differs."""
    path = cache / "npm" / package.cached
    if not path.is_file():
        url = f"{base or registry()}{package.name}/-/{package.archive}"
        try:
            with urllib.request.urlopen(url, timeout=120) as reply:
                content: bytes = reply.read()
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            raise SourceError(
                f"cannot fetch {package.name} {package.version} from {url}: {error}. Without a network, put the "
                f"archive there by hand: {path} (`npm pack {package.name}@{package.version}` makes one)"
            ) from error
        _check(package, content, url)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_bytes(content)
        beside.replace(path)
    else:
        _check(package, path.read_bytes(), str(path))
    return path


def _check(package: Package, content: bytes, where: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != package.sha256:
        raise SourceError(
            f"{where} is not {package.name} {package.version}: its SHA-256 is {found}, expected {package.sha256}; "
            "delete the file and run again"
        )


def members(archive: Path, *names: str) -> dict[str, bytes]:
    """Files of an archive by their path below ``package/``; all files when no name is given."""
    wanted, found = set(names), {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = entry.name.removeprefix("package/")
            handle = tar.extractfile(entry) if entry.isfile() and (not wanted or name in wanted) else None
            if handle:
                found[name] = handle.read()
    missing = wanted - set(found)
    if missing:
        raise SourceError(f"{archive} lacks {sorted(missing)}")
    return found


def read_json(archive: Path, name: str) -> Any:
    """One JSON file of an archive."""
    return json.loads(members(archive, name)[name])
