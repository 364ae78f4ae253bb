"""Text to conditioning: windows of tokens, encoders, branches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import chain, chain_at, onion
from .errors import RequestError
from .families import family_of
from .order import Plan
from .stages import Conditioning, Prompt, TextArgs, TextEncoding, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run

MAX_WINDOWS = 64
CACHE_SIZE = 64

TextCache = OrderedDict[tuple[Any, ...], TextEncoding]


def encode_prompt(
    run: Run, plan: Plan, prompt: Prompt, cache: TextCache | None, branches: Sequence[str]
) -> tuple[dict[str, Conditioning], tuple[str, ...]]:
    """Carry the prompt of a run to one Conditioning per branch.

    Args:
        run: the run.
        plan: its plan.
        prompt: what the port ``prompt`` has made of the request's.
        cache: encodings kept between runs; None where an encoder is changed in this run.
        branches: ``("cond",)`` or ``("cond", "uncond")``.

    Returns:
        Branch name to conditioning, and the words that were cut off.
    """
    if plan[ports.encode_text] or plan[ports.token_embeddings]:
        cache = None
    encode = onion(plan[ports.encode_text], lambda args: _encode_cached(run, plan, cache, args))
    texts = {"cond": prompt.positive, "uncond": prompt.negative or ""}
    encoders = range(len(run.model.text_encoders))
    encodings = {name: [encode(TextArgs(index, texts[name], name)) for index in encoders] for name in branches}
    _pad(run, plan, cache, encodings)
    family = family_of(run.model.family)
    size = (run.height, run.width)
    request = run.request if prompt.negative == run.request.negative_prompt else run.request.replace(
        negative_prompt=prompt.negative
    )  # fmt: skip
    conditions = {name: family.conditioning(run.model, request, name, size, found) for name, found in encodings.items()}
    conditions = {name: _onto(run, found) for name, found in conditions.items()}
    lost = tuple(dict.fromkeys(word for found in encodings.values() for one in found for word in one.lost))
    return chain(plan[ports.conditioning], conditions), lost


def _onto(run: Run, conditioning: Conditioning) -> Conditioning:
    """On the U-Net's device, in its dtype."""

    def move(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(run.device, run.dtype)

    context = conditioning.context.to(run.device, run.dtype)
    return Conditioning(context, move(conditioning.pooled), move(conditioning.time_ids))


def _encode_cached(run: Run, plan: Plan, cache: TextCache | None, args: TextArgs) -> TextEncoding:
    key = (args.encoder, args.text, _clip_skip(run, args), run.request.long_prompt)
    if cache is not None and key in cache:
        cache.move_to_end(key)
        return cache[key]
    encoding = _encode(run, plan, args)
    if cache is not None:
        cache[key] = encoding
        while len(cache) > CACHE_SIZE:
            cache.popitem(last=False)
    return encoding


def _encode(run: Run, plan: Plan, args: TextArgs) -> TextEncoding:
    import torch

    windows, lost = token_windows(run.model.tokenizers[args.encoder], args.text, run.request.long_prompt)
    encoder: Any = run.model.text_encoders[args.encoder]
    family = family_of(run.model.family)
    clip_skip = _clip_skip(run, args)
    layers = encoder.config.num_hidden_layers
    if clip_skip is not None and clip_skip >= layers:
        raise RequestError(f"clip_skip is {clip_skip}, but the text encoder has {layers} layers; use a smaller number")
    hidden, pooled = [], None
    for ids, mask in windows:
        tokens = torch.tensor([ids], device=encoder.device)
        use_mask = getattr(encoder.config, "use_attention_mask", False)
        attention = torch.tensor([mask], device=encoder.device) if use_mask else None
        with _embedding_stages(plan, encoder, Tokens(args.encoder, args.branch, tokens)):
            state, vector = family.encode(encoder, tokens, attention, clip_skip)
        hidden.append(state)
        pooled = vector if pooled is None else pooled
    return TextEncoding(hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1), pooled, lost)


def _clip_skip(run: Run, args: TextArgs) -> int | None:
    # diffusers lets clip_skip act on the prompt only, and so do we: its pipelines are what results are compared with.
    return run.request.clip_skip if args.branch == "cond" else None


@contextmanager
def _embedding_stages(plan: Plan, encoder: Any, tokens: Tokens) -> Iterator[None]:
    stages = plan[ports.token_embeddings]
    if not stages:
        yield
        return
    embedding = encoder.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda _m, _a, output: chain_at(stages, tokens, output))
    try:
        yield
    finally:
        handle.remove()


def _pad(run: Run, plan: Plan, cache: TextCache | None, encodings: dict[str, list[TextEncoding]]) -> None:
    """Make all encodings equally long, with windows that hold no text."""
    import torch

    longest = max(one.hidden.shape[1] for found in encodings.values() for one in found)
    for branch, found in encodings.items():
        for index, one in enumerate(found):
            missing = longest - one.hidden.shape[1]
            if missing:
                empty = _encode_cached(run, plan, cache, TextArgs(index, "", branch)).hidden
                if missing % empty.shape[1]:
                    raise RequestError(
                        f"the texts of the branches came out {longest} and {one.hidden.shape[1]} tokens long; "
                        f"they must differ by whole windows of {empty.shape[1]}"
                    )
                padded = torch.cat([one.hidden, *[empty] * (missing // empty.shape[1])], dim=1)
                found[index] = replace(one, hidden=padded)


def token_windows(
    tokenizer: Any, text: str, long_prompt: str
) -> tuple[list[tuple[list[int], list[int]]], tuple[str, ...]]:
    """Token ids and attention mask of every window, and the words that were cut off.

    A window is ``model_max_length`` long, begins with the start token and ends with the end token. With
    ``"chunk"`` a long text fills several windows, split between words; with ``"cut"`` only the first is kept.

    Raises:
        RequestError: the text would fill more than 64 windows.
    """
    window: int = tokenizer.model_max_length
    room = window - 2
    ids: list[int] = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    lost: tuple[str, ...] = ()
    if len(ids) <= room:
        chunks = [ids]
    elif long_prompt == "cut":
        chunks, lost = [ids[:room]], tuple(tokenizer.decode(ids[room:]).split())
    else:
        chunks = _split(tokenizer, ids, room)
        if len(chunks) > MAX_WINDOWS:
            raise RequestError(
                f"the prompt has {len(ids)} tokens, which fill {len(chunks)} windows of {room}; the limit is "
                f"{MAX_WINDOWS}; shorten it, or set long_prompt='cut'"
            )
    begin, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    windows = []
    for chunk in chunks:
        filled = [begin, *chunk, end]
        rest = window - len(filled)
        windows.append((filled + [pad] * rest, [1] * len(filled) + [0] * rest))
    return windows, lost


def _split(tokenizer: Any, ids: list[int], room: int) -> list[list[int]]:
    pieces = tokenizer.convert_ids_to_tokens(ids)
    chunks, start = [], 0
    while start < len(ids):
        end = min(start + room, len(ids))
        if end < len(ids):
            # Back to the end of a word, unless one word fills the window.
            whole = next((at for at in range(end, start, -1) if pieces[at - 1].endswith("</w>")), end)
            end = whole
        chunks.append(ids[start:end])
        start = end
    return chunks
