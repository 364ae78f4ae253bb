from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdcore import Engine
from sdcore.testing.tiny import tiny_folder


@functools.cache
def _chain(kind: str) -> Any:
    from sdcore_watermark.credentials.development import make_chain

    return make_chain(kind)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def chain() -> Callable[[str], Any]:
    """``chain("es256")``: a development chain, the same in every test."""
    pytest.importorskip("cryptography")
    return _chain


@pytest.fixture
def files(tmp_path: Path, chain: Callable[[str], Any]) -> dict[str, str]:
    """Paths of the certificate, the key and the root of a chain."""
    made, found = chain("es256"), {}
    for name, text in (("certificate", made.certificates), ("key", made.key), ("anchors", made.root)):
        path = tmp_path / f"{name}.pem"
        path.write_text(text)
        found[name] = str(path)
    return found


@pytest.fixture
def signed_by(files: dict[str, str]) -> dict[str, str]:
    """The options that say who signs."""
    return {name: files[name] for name in ("certificate", "key")}


@pytest.fixture(scope="session")
def tiny() -> Engine:
    plugins = ["watermark", "credentials", "inpaint"]
    return Engine.load(tiny_folder("sd1"), plugins=plugins, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def picture() -> Callable[[str], bytes]:
    """``picture("PNG")``: a small noisy picture as a file."""
    pixels = np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    def encoded(kind: str) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind, **({} if kind == "PNG" else {"quality": 90}))
        return out.getvalue()

    return encoded
