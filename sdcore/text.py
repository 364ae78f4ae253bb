"""Text to conditioning: windows of tokens, encoders, branches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import chain, chain_at, onion
from .errors import RequestError
from .families import family_of
from .order import Plan
from .stages import Conditioning, Prompt, TextArgs, TextEncoding, Tokens
from .tokens import Place, cut_into_windows, tokenise
from .words import PLACE, Words

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run

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
    words = Words(plan[ports.words], run.model.text_encoders)
    if plan[ports.encode_text] or plan[ports.token_embeddings] or words:
        cache = None

    def encode_one(args: TextArgs) -> TextEncoding:
        return _encode_cached(run, plan, words, cache, args)

    encode = onion(plan[ports.encode_text], encode_one)
    texts = {"cond": prompt.positive, "uncond": prompt.negative or ""}
    encoders = range(len(run.model.text_encoders))
    encodings = {name: [encode(TextArgs(index, texts[name], name)) for index in encoders] for name in branches}
    _pad(encode_one, encodings)
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


def _encode_cached(run: Run, plan: Plan, words: Words, cache: TextCache | None, args: TextArgs) -> TextEncoding:
    key = (args.encoder, args.text, _clip_skip(run, args), run.request.long_prompt)
    if cache is not None and key in cache:
        cache.move_to_end(key)
        return cache[key]
    encoding = _encode(run, plan, words, args)
    if cache is not None:
        cache[key] = encoding
        while len(cache) > CACHE_SIZE:
            cache.popitem(last=False)
    return encoding


def _encode(run: Run, plan: Plan, words: Words, args: TextArgs) -> TextEncoding:
    import torch

    places: list[Place] = []
    tokenizer = run.model.tokenizers[args.encoder]
    ids = tokenise(tokenizer, words.parts(args.text, args.encoder), places)
    windows, lost = cut_into_windows(tokenizer, ids, run.request.long_prompt, places)
    encoder: Any = run.model.text_encoders[args.encoder]
    family = family_of(run.model.family)
    clip_skip = _clip_skip(run, args)
    layers = encoder.config.num_hidden_layers
    if clip_skip is not None and clip_skip >= layers:
        raise RequestError(f"clip_skip is {clip_skip}, but the text encoder has {layers} layers; use a smaller number")
    hidden, pooled = [], None
    for ids, mask in windows:
        tokens = torch.tensor([[max(number, PLACE) for number in ids]], device=encoder.device)
        own = {at: places[-1 - number].vector for at, number in enumerate(ids) if number < 0}
        use_mask = getattr(encoder.config, "use_attention_mask", False)
        attention = torch.tensor([mask], device=encoder.device) if use_mask else None
        with _embedding_stages(plan, encoder, Tokens(args.encoder, args.branch, tokens), own):
            state, vector = family.encode(encoder, tokens, attention, clip_skip)
        hidden.append(state)
        pooled = vector if pooled is None else pooled
    return TextEncoding(hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1), pooled, lost)


def _clip_skip(run: Run, args: TextArgs) -> int | None:
    # diffusers lets clip_skip act on the prompt only, and so do we: its pipelines are what results are compared with.
    return run.request.clip_skip if args.branch == "cond" else None


@contextmanager
def _embedding_stages(plan: Plan, encoder: Any, tokens: Tokens, own: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside, the encoder's embeddings have the vectors of words at their places, and pass through the stages."""
    stages = plan[ports.token_embeddings]
    if not stages and not own:
        yield
        return

    def embedded(_module: Any, _args: Any, output: Tensor) -> Any:
        if own:
            output = output.clone()
        for place, vector in own.items():
            output[:, place] = vector.to(output)
        return chain_at(stages, tokens, output)

    handle = encoder.get_input_embeddings().register_forward_hook(embedded)
    try:
        yield
    finally:
        handle.remove()


def _pad(encode: Callable[[TextArgs], TextEncoding], encodings: dict[str, list[TextEncoding]]) -> None:
    """Make all encodings equally long, with windows that hold no text."""
    import torch

    longest = max(one.hidden.shape[1] for found in encodings.values() for one in found)
    for branch, found in encodings.items():
        for index, one in enumerate(found):
            missing = longest - one.hidden.shape[1]
            if missing:
                empty = encode(TextArgs(index, "", branch)).hidden
                if missing % empty.shape[1]:
                    raise RequestError(
                        f"the texts of the branches came out {longest} and {one.hidden.shape[1]} tokens long; "
                        f"they must differ by whole windows of {empty.shape[1]}"
                    )
                padded = torch.cat([one.hidden, *[empty] * (missing // empty.shape[1])], dim=1)
                found[index] = replace(one, hidden=padded)
