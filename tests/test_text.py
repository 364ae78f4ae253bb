from __future__ import annotations

from typing import Any

import pytest
import torch

from sdcore import Engine, Plugin, RequestError, hookimpl, ports
from sdcore.events import Warned
from sdcore.testing.tiny import tiny_folder, tiny_tokenizer
from sdcore.tokens import MAX_WINDOWS, token_windows

SHORT = tiny_tokenizer(12)  # ten tokens besides start and end
SMALL: dict[str, Any] = {"seed": 1, "steps": 1, "height": 16, "width": 16, "output": "latent"}


def pieces(text: str, how: str = "chunk", tokenizer: Any = SHORT) -> list[list[str]]:
    """The text's own tokens in every window."""
    windows, _ = token_windows(tokenizer, text, how)
    return [
        [tokenizer.convert_ids_to_tokens(number) for number, kept in zip(ids, mask, strict=True) if kept][1:-1]
        for ids, mask in windows
    ]


# -- windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "a red cat", "the cat " * 5, "the cat " * 37, "\N{CAT}", "a\n b\tc"])
@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_every_window_is_whole(text: str, pad: str) -> None:
    tokenizer = tiny_tokenizer(12, pad)
    for how in ("chunk", "cut"):
        for ids, mask in token_windows(tokenizer, text, how)[0]:
            end = sum(mask) - 1
            assert len(ids) == len(mask) == 12
            assert ids[0] == tokenizer.bos_token_id
            assert ids[end] == tokenizer.eos_token_id
            assert mask == [1] * (end + 1) + [0] * (11 - end)
            assert set(ids[end + 1 :]) <= {tokenizer.pad_token_id}


@pytest.mark.parametrize("positions", [12, 32, 77])
@pytest.mark.parametrize("text", ["", "a red cat", "the\n\tcat, (face:1.3)", "cat " * 200, "\N{CAT}\u200d\N{CAT}"])
def test_first_window_is_what_the_tokenizer_makes(text: str, positions: int) -> None:
    tokenizer = tiny_tokenizer(positions)
    (window,), _ = token_windows(tokenizer, text, "cut")
    whole = tokenizer(text, padding="max_length", truncation=True, max_length=positions)
    assert window[0] == whole.input_ids
    if len(text) < 30:
        assert window[1] == whole.attention_mask


def test_full_to_the_last_place() -> None:
    assert pieces("the cat " * 5) == [["the</w>", "cat</w>"] * 5]
    assert token_windows(SHORT, "the cat " * 5, "cut")[1] == ()
    assert pieces("the cat " * 5 + "a") == [["the</w>", "cat</w>"] * 5, ["a</w>"]]


@pytest.mark.parametrize(
    "text",
    ["a red cat in the house with a blue dog and the green apple on the photo", "odd words go in bits", "a, b; c!"],
)
def test_windows_end_with_words(text: str) -> None:
    text = " ".join([text] * 3)
    windows = pieces(text)
    assert len(windows) > 1
    assert all(window[-1].endswith("</w>") for window in windows)
    assert [piece for window in windows for piece in window] == SHORT.tokenize(text)


def test_a_word_longer_than_a_window_is_split() -> None:
    windows = pieces("a supercalifragilistic cat")
    assert windows[0] == ["a</w>"]
    assert len(windows[1]) == 10
    assert [piece for window in windows for piece in window] == SHORT.tokenize("a supercalifragilistic cat")


def test_an_emoji_stays_whole_where_it_fits() -> None:
    assert pieces("the cat the cat the cat the \N{CAT}")[1] == SHORT.tokenize("\N{CAT}")


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("the cat " * 5 + "in a house", ("in", "a", "house")),
        ("the cat " * 5, ()),
        ("supercalifragilistic cat", ("agilistic", "cat")),
        ("the cat " * 5 + "Red, DOG!", ("red", ",", "dog", "!")),
    ],
)
def test_lost_words(text: str, lost: tuple[str, ...]) -> None:
    assert token_windows(SHORT, text, "cut")[1] == lost
    assert token_windows(SHORT, text, "chunk")[1] == ()


def test_too_long_even_for_chunks() -> None:
    most = "cat " * (10 * MAX_WINDOWS)
    assert len(pieces(most)) == MAX_WINDOWS
    with pytest.raises(RequestError, match=r"641 tokens, which fill 65 windows of 10; the limit is 64; shorten it"):
        token_windows(SHORT, most + "cat", "chunk")
    assert len(pieces(most + "cat", "cut")) == 1


# -- what comes out of the encoders --------------------------------------------------------------------------


class Conditions(Plugin):
    """Keeps what the U-Net is told."""

    name = "conditions"
    seen: Any = None

    @hookimpl
    def text(self, run: Any) -> Any:
        def keep(conditioning: Any) -> None:
            self.seen = dict(conditioning)

        return ports.conditioning(keep)


def told(engine: Engine, prompt: str, **fields: Any) -> dict[str, Any]:
    engine.generate(prompt, use=["conditions"], **SMALL | {"guidance_scale": 3.0} | fields)
    found: dict[str, Any] = engine.host.plugin("conditions").seen  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl", "refiner"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine.load(tiny_folder(request.param, positions=12), plugins=[Conditions], device="cpu")


@pytest.fixture(scope="module")
def sd1() -> Engine:
    return Engine.load(tiny_folder("sd1", positions=12), plugins=[Conditions], device="cpu")


def test_windows_follow_each_other(engine: Engine) -> None:
    long, first, second = "the cat " * 5 + "a red dog", "the cat " * 5, "a red dog"
    whole = told(engine, long)["cond"]
    parts = [told(engine, text)["cond"] for text in (first, second)]
    assert whole.context.shape[1] == 24
    assert torch.equal(whole.context, torch.cat([part.context for part in parts], dim=1))
    if whole.pooled is not None:  # the first window's
        assert torch.equal(whole.pooled, parts[0].pooled)


@pytest.mark.parametrize(
    ("prompt", "negative"), [("the cat " * 12, "dog"), ("dog", "the cat " * 12), ("", "cat " * 21)]
)
def test_branches_are_made_equally_long(engine: Engine, prompt: str, negative: str) -> None:
    found = told(engine, prompt, negative_prompt=negative)
    assert found["cond"].context.shape == found["uncond"].context.shape
    assert found["cond"].context.shape[1] == 36
    short = "cond" if len(prompt) < len(negative) else "uncond"
    alone = told(engine, min(prompt, negative, key=len))["cond"]
    empty = told(engine, "")["cond"]
    assert torch.equal(found[short].context, torch.cat([alone.context, empty.context, empty.context], dim=1))


def test_without_guidance_the_negative_prompt_is_not_encoded(engine: Engine) -> None:
    found = told(engine, "a cat", negative_prompt="the dog " * 30, guidance_scale=1.0)
    assert set(found) == {"cond"}
    assert found["cond"].context.shape[1] == 12


def test_cut_and_chunk(engine: Engine) -> None:
    long = "the cat " * 5 + "a red dog in a blue house"
    cut, kept = told(engine, long, long_prompt="cut"), told(engine, "the cat " * 5)
    assert torch.equal(cut["cond"].context, kept["cond"].context)
    events: list[Any] = []
    result = engine.generate(long, long_prompt="cut", on_event=events.append, **SMALL)
    assert result.lost_tokens == ("a", "red", "dog", "in", "blue", "house")  # each word once
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "cut off: a red dog in blue house" in warning.message
    chunked = engine.generate(long, **SMALL)
    assert chunked.lost_tokens == ()
    assert not torch.equal(chunked.latents, result.latents)


def test_words_lost_from_the_negative_prompt(sd1: Engine) -> None:
    long = "the cat " * 5 + "dog"
    assert sd1.generate("a", negative_prompt=long, long_prompt="cut", **SMALL).lost_tokens == ("dog",)
    assert sd1.generate("a", negative_prompt=long, long_prompt="cut", guidance_scale=1, **SMALL).lost_tokens == ()


@pytest.mark.parametrize("prompt", ["", " ", "\N{CAT}", "e\u0301", "<|endoftext|> cat"])
def test_strange_text_gives_numbers(engine: Engine, prompt: str) -> None:
    found = told(engine, prompt)["cond"]
    assert found.context.isfinite().all()
    assert found.context.shape[1] == 12


def test_clip_skip_has_layers_to_skip(engine: Engine) -> None:
    with pytest.raises(RequestError, match="clip_skip is 3, but the text encoder has 3 layers"):
        engine.generate("a cat", clip_skip=3, **SMALL)
    first, second = (told(engine, "a cat", clip_skip=number) for number in (1, 2))
    assert not torch.equal(first["cond"].context, second["cond"].context)
    assert torch.equal(first["uncond"].context, second["uncond"].context)


# -- the cache ---------------------------------------------------------------------------------------------------


def calls(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls of the first text encoder's embedding."""
    counted: list[int] = []
    embedding = engine.model.text_encoders[0].get_input_embeddings()  # type: ignore[operator]
    handle = embedding.register_forward_hook(lambda *_: counted.append(1))
    monkeypatch.setattr(engine, "_counting", handle, raising=False)
    return counted


def test_a_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.load(tiny_folder("sd1"), plugins=[Conditions], device="cpu") as engine:
        counted = calls(engine, monkeypatch)
        first = engine.generate("a cat", negative_prompt="dog", **SMALL)
        assert len(counted) == 2
        again = engine.generate("a cat", negative_prompt="dog", **SMALL)
        assert len(counted) == 2
        assert torch.equal(first.latents, again.latents)
        swapped = engine.generate("dog", negative_prompt="a cat", **SMALL)
        assert len(counted) == 2
        assert not torch.equal(swapped.latents, first.latents)
        skipped = engine.generate("a cat", negative_prompt="dog", clip_skip=1, **SMALL)
        assert len(counted) == 3
        assert not torch.equal(skipped.latents, first.latents)
        for fields in ({"long_prompt": "cut"}, {"clip_skip": 2}):
            engine.generate("a cat", **fields, **SMALL)
        assert torch.equal(engine.generate("a cat", negative_prompt="dog", **SMALL).latents, first.latents)
    with Engine.load(tiny_folder("sd1"), plugins=[], device="cpu") as fresh:
        assert torch.equal(fresh.generate("a cat", negative_prompt="dog", **SMALL).latents, first.latents)


def test_the_cache_is_bounded() -> None:
    from sdcore.text import CACHE_SIZE

    with Engine.load(tiny_folder("sd1"), plugins=[], device="cpu") as engine:
        for number in range(CACHE_SIZE + 10):
            engine.generate(f"cat {number}", guidance_scale=1, **SMALL)
        assert engine._texts is not None
        assert len(engine._texts) == CACHE_SIZE


class Louder(Plugin):
    """Changes what the encoder sees, or what it says."""

    name = "louder"
    where = "token_embeddings"

    @hookimpl
    def text(self, run: Any) -> Any:
        if self.where == "token_embeddings":
            return ports.token_embeddings(lambda tokens, embeddings: embeddings * 1.5)
        from dataclasses import replace

        def more(args: Any, call_next: Any) -> Any:
            found = call_next(args)
            return replace(found, hidden=found.hidden * 1.5)

        return ports.encode_text(more)


@pytest.mark.parametrize("where", ["token_embeddings", "encode_text"])
def test_stages_neither_read_nor_fill_the_cache(where: str) -> None:
    with Engine.load(tiny_folder("sd1"), plugins=[Louder], device="cpu") as engine:
        plugin: Any = engine.host.plugin("louder")
        plugin.where = where
        before = engine.generate("a cat", **SMALL)
        louder = engine.generate("a cat", use=["louder"], **SMALL)
        assert not torch.equal(louder.latents, before.latents)
        engine.generate("a dog", use=["louder"], **SMALL)
        assert torch.equal(engine.generate("a cat", **SMALL).latents, before.latents)
        with Engine.load(tiny_folder("sd1"), plugins=[], device="cpu") as fresh:
            assert torch.equal(engine.generate("a dog", **SMALL).latents, fresh.generate("a dog", **SMALL).latents)
        embedding: Any = engine.model.text_encoders[0].get_input_embeddings()  # type: ignore[operator]
        assert not embedding._forward_hooks
