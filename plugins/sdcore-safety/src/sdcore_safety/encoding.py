"""Texts of this plugin through the model's own text encoders: as conditioning of a branch, and as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcore.families import family_of
from sdcore.stages import Conditioning, TextEncoding
from sdcore.tokens import token_windows

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore import Run
    from sdcore.models import Model

BATCH = 16


def conditioning_of(run: Run, text: str, tokens: int | None = None) -> tuple[Conditioning, tuple[str, ...]]:
    """What the U-Net would be told if ``text`` were the prompt.

    Args:
        run: the run; its size goes into SDXL's time ids.
        text: the text; what does not fit into one window of the encoder is cut off.
        tokens: length that the context must have, to stand in one batch with others; None leaves it.

    Returns:
        The conditioning, on the U-Net's device in its dtype, and the words that were cut off.
    """
    import torch

    model, family = run.model, family_of(run.model.family)
    encodings: list[TextEncoding] = []
    lost: list[str] = []
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        windows, left = token_windows(tokenizer, text, "cut")
        lost += left
        encodings.append(_encode(family, encoder, windows[0]))
        if tokens is not None and tokens > encodings[-1].hidden.shape[1]:
            empty = _encode(family, encoder, token_windows(tokenizer, "", "cut")[0][0]).hidden
            times = -(-tokens // empty.shape[1]) - 1
            longer = torch.cat([encodings[-1].hidden, *[empty] * times], dim=1)
            encodings[-1] = replace(encodings[-1], hidden=longer[:, :tokens])
    made = family.conditioning(model, run.request, "cond", (run.height, run.width), encodings)

    def move(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(run.device, run.dtype)

    context = made.context.to(run.device, run.dtype)
    return Conditioning(context, move(made.pooled), move(made.time_ids)), tuple(dict.fromkeys(lost))


def _encode(family: Any, encoder: Any, window: tuple[list[int], list[int]]) -> TextEncoding:
    import torch

    ids, mask = (torch.tensor([part], device=encoder.device) for part in window)
    masked = mask if getattr(encoder.config, "use_attention_mask", False) else None
    hidden, pooled = family.encode(encoder, ids, masked, None)
    return TextEncoding(hidden, pooled)


def text_vectors(model: Model, texts: Sequence[str]) -> Tensor:
    """One vector for each text: what the last text encoder holds at the end token, float32 (texts, width).

    Texts go through the encoder with others of about their length, padded to the longest of these and not to a whole
    window: an encoder that looks backwards only cannot see what stands behind the end.
    """
    import torch

    tokenizer = model.tokenizers[-1]
    encoder: Any = model.text_encoders[-1]
    end = tokenizer.eos_token_id
    ids = []
    for text in texts:
        window, mask = token_windows(tokenizer, text, "cut")[0][0]
        ids.append(window[: sum(mask)])
    found: list[Tensor | None] = [None] * len(ids)
    with torch.no_grad():
        for part in _batches([len(row) for row in ids]):
            longest = len(ids[part[-1]])
            rows = torch.tensor([ids[place] + [end] * (longest - len(ids[place])) for place in part])
            output: Any = encoder(rows.to(encoder.device))
            vectors = getattr(output, "text_embeds", None)
            if vectors is None:
                ends = [len(ids[place]) - 1 for place in part]
                vectors = output.last_hidden_state[range(len(part)), ends]
            for place, vector in zip(part, vectors.float(), strict=True):
                found[place] = vector
    return torch.stack([vector for vector in found if vector is not None])


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places by length, shortest first: at most :data:`BATCH` at once, none more than three times as long as one."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if found and len(found[-1]) < BATCH and lengths[place] <= 3 * lengths[found[-1][0]]:
            found[-1].append(place)
        else:
            found.append([place])
    return found
