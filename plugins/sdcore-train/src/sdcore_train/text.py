"""Captions to conditioning, in batches, with gradients where text encoders or words are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from sdcore import GenerateRequest
from sdcore.families import family_of
from sdcore.stages import Conditioning, TextEncoding
from sdcore.tokens import Place, cut_into_windows, tokenise
from sdcore.words import PLACE, Words

from . import ports
from .records import Batch
from .stages import TrainStep

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .data import TextMemory
    from .job import Job


KEPT = 1 << 18
"""Captions whose tokens are kept in memory, half a kilobyte each."""

_ANY = GenerateRequest(prompt="")
"""For families, whose arithmetic asks a request for sizes."""


class Text:
    """The text side of a training.

    Args:
        job: the training, with its plan made.
        trained: names of the networks that are trained; text encoders that are not are run without gradients.
    """

    def __init__(self, job: Job, trained: Sequence[str]) -> None:
        self._job = job
        self._model = job.model
        self._family = family_of(job.model.family)
        self._names = [name for name in job.model.components if name.startswith("text_encoder")]
        self._trained = frozenset(trained).intersection(self._names)
        self._words = Words(job.plan[ports.words], job.model.text_encoders)
        self._windows: dict[tuple[int, str], tuple[NDArray[Any], NDArray[Any]]] = {}
        self.memory: TextMemory | None = None

    @property
    def frozen(self) -> bool:
        """Whether a caption's encoding stays the same for the whole training."""
        return not self._trained and not self._words

    def conditioning(self, step: TrainStep, batch: Batch) -> Conditioning:
        """What the U-Net is told of a batch, n of each."""
        import torch

        found = self.encode(batch.captions) if self.memory is None else self.memory(batch.captions)
        context = found["context"].to(self._job.device, self._job.dtype)
        pooled = found.get("pooled")
        if pooled is None:
            return Conditioning(context)
        ids = torch.tensor(self._time_ids(batch), device=context.device, dtype=context.dtype)
        return Conditioning(context, pooled.to(context), ids)

    def encode(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """``context`` (n, window, width) of captions, and ``pooled`` (n, width) where the family has it."""
        import torch

        unique = list(dict.fromkeys(captions))
        encodings = []
        for index, name in enumerate(self._names):
            learns = name in self._trained or bool(self._words)
            with nullcontext() if learns else torch.no_grad():
                encodings.append(self._encode(index, self._job.networks[name], unique))
        whole = self._family.conditioning(self._model, _ANY, "cond", (8, 8), encodings)
        place = {caption: row for row, caption in enumerate(unique)}
        rows = torch.tensor([place[caption] for caption in captions], device=whole.context.device)
        found = {"context": whole.context[rows]}
        if whole.pooled is not None:
            found["pooled"] = whole.pooled[rows]
        if self._model.config.get("force_zeros_for_empty_prompt"):
            # What guidance will use as the empty prompt is what dropped captions must teach.
            kept = torch.tensor([bool(caption) for caption in captions], device=whole.context.device)
            found = {name: torch.where(kept.view(-1, *[1] * (v.ndim - 1)), v, 0) for name, v in found.items()}
        return found

    def _encode(self, index: int, network: Any, captions: Sequence[str]) -> TextEncoding:
        import numpy as np
        import torch

        encoder = self._model.text_encoders[index]
        found = [self._window(index, caption) for caption in captions]
        own = [(row, at, vector) for row, (_, _, vectors) in enumerate(found) for at, vector in vectors]
        ids, masks = np.stack([ids for ids, _, _ in found]), np.stack([mask for _, mask, _ in found])
        tokens = torch.from_numpy(ids).to(self._job.device, torch.int64)
        attention = (
            torch.from_numpy(masks).to(self._job.device, torch.int64)
            if getattr(encoder.config, "use_attention_mask", False)
            else None
        )
        with _with_vectors(encoder, own):
            state, vector = self._family.encode(network, tokens, attention, None)
        return TextEncoding(state, vector)

    def _window(self, index: int, caption: str) -> tuple[NDArray[Any], NDArray[Any], list[tuple[int, Tensor]]]:
        """Token ids and mask of a caption's first window, and the places in it that have vectors of their own.

        Those without such places are kept: cutting a caption into tokens again at each visit takes a fast GPU as long
        as the step itself.
        """
        import numpy as np

        known = self._windows.get((index, caption))
        if known is not None:
            return *known, []
        tokenizer = self._model.tokenizers[index]
        places: list[Place] = []
        ids = tokenise(tokenizer, self._words.parts(caption, index), places)
        [(window, mask), *_], _ = cut_into_windows(tokenizer, ids, "cut", places)
        own = [(at, places[-1 - number].vector) for at, number in enumerate(window) if number < 0]
        row = np.array([max(number, PLACE) for number in window], np.int32)
        used = np.array(mask, np.int8)
        if not own and len(self._windows) < KEPT:
            self._windows[index, caption] = row, used
        return row, used, own

    def _time_ids(self, batch: Batch) -> list[list[float]]:
        family: Any = self._family
        sizes = zip(batch.original_sizes, batch.crops, strict=True)
        requests = [_ANY.replace(original_size=size, crops_coords_top_left=crop) for size, crop in sizes]
        return [list(family.time_ids(request, "cond", batch.size)) for request in requests]


@contextmanager
def _with_vectors(encoder: Any, own: Sequence[tuple[int, int, Tensor]]) -> Iterator[None]:
    """Inside, the encoder's embeddings have these vectors at these (row, place)."""
    if not own:
        yield
        return
    import torch

    def embedded(_module: Any, _args: Any, output: Tensor) -> Tensor:
        where = (torch.tensor([row for row, _, _ in own]), torch.tensor([at for _, at, _ in own]))
        return output.index_put(where, torch.stack([vector for _, _, vector in own]).to(output))

    handle = encoder.get_input_embeddings().register_forward_hook(embedded)
    try:
        yield
    finally:
        handle.remove()
