"""The engine plugin: files of textual inversion as words of a run (arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sdcore import Access, Asset, Contributions, ModelError, Options, Plugin, Problem, Run, Word, hookimpl, ports

if TYPE_CHECKING:
    from .embedding_files import Embedding

_KIND_OF = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}


class TextualInversion(Options):
    """A word from a file: ``use=[TextualInversion(path="my-cat.safetensors")]``, then "a photo of my-cat"."""

    path: Asset = Field(description="a .safetensors file in the layout of AUTOMATIC1111, ComfyUI or diffusers")
    word: str | None = Field(
        default=None, description="as it stands in prompts; None is what the file says, else the name of the file"
    )
    allow_pickle: bool = Field(
        default=False, description="read .pt and .bin files too; only tensors are taken from them"
    )


class TextualInversionPlugin(Plugin):
    """Lets prompts contain words that files define."""

    name = "textual-inversion"
    options = TextualInversion
    access = Access(files=("read",), weights=("safetensors", "pickle"), when="pickles: with allow_pickle")

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, bool], Embedding] = {}

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem]:
        """Refuse files that cannot be read or are for another model."""
        for used in run.uses(TextualInversion):
            try:
                self._word(used, run)
            except ModelError as error:
                yield Problem(str(error))

    @hookimpl
    def text(self, run: Run) -> Contributions:
        """Contribute a word for every file."""
        found: dict[tuple[str, str], Word] = {}
        for used in run.uses(TextualInversion):
            word = self._word(used, run)
            found.setdefault((word.text.lower(), used.path), word)  # the same file twice is one word
            if run.outer is None and 0 in run.indices and word.text.lower() not in _prompts(run):
                run.warn(f"textual-inversion: the prompt does not contain {word.text!r}, the word of {used.path}")
        return [ports.words(word) for word in found.values()]

    def _word(self, used: TextualInversion, run: Run) -> Word:
        found = self._read(used)
        text = used.word or found.word or Path(used.path).stem
        parts: dict[str, Any] = run.model.components
        widths = {name: part.config.hidden_size for name, part in parts.items() if name.startswith("text_encoder")}
        placed: dict[str, Any] = {}
        for kind, vectors in found.vectors.items():
            able = [n for n, width in widths.items() if width == vectors.shape[1] and _KIND_OF.get(kind, n) == n]
            if able:
                placed[able[0]] = vectors
        if not placed:
            have = " and ".join(str(vectors.shape[1]) for vectors in found.vectors.values())
            need = " and ".join(map(str, widths.values()))
            raise ModelError(
                f"{used.path}: its vectors are {have} wide, and the text encoders of this model {need}: it was made "
                "for another family of models"
            )
        return Word(text, tuple(placed.get(name) for name in widths))

    def _read(self, used: TextualInversion) -> Embedding:
        from .embedding_files import read_embedding

        path = Path(used.path).expanduser()
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        key = (str(path.absolute()), stamp, used.allow_pickle)
        if key not in self._known:
            self._known[key] = read_embedding(path, allow_pickle=used.allow_pickle)
        return self._known[key]


def _prompts(run: Run) -> str:
    return f"{run.request.prompt} {run.request.negative_prompt or ''}".lower()
