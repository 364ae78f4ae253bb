"""Words with embeddings of their own: the same as textual inversion in diffusers, and what is refused."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from sdcore import ConflictError, Engine, PluginError, Word, ports
from sdcore.testing.parity import Recorder, difference, ours, theirs
from sdcore.testing.tiny import tiny_folder

from .kit import generate, model, plugin, same_pictures, stage

VECTORS = torch.sin(torch.arange(192.0)).view(3, 64)


def with_words(*words: Word, name: str = "a") -> Any:
    return plugin(name, text=lambda run: [ports.words(word) for word in words])


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("prompt", ["a photo of a <toy> on the house", "<toy>", "a red cat,<toy>.", "<toy> <toy>"])
def test_it_is_what_diffusers_does_with_a_textual_inversion(places: int, prompt: str, tmp_path: Any) -> None:
    vectors = VECTORS[:places]
    save_file({"<toy>": vectors.squeeze(0) if places == 1 else vectors}, tmp_path / "toy.safetensors")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1"))
    pipe.load_textual_inversion(str(tmp_path / "toy.safetensors"), token="<toy>")
    engine = Engine.load(tiny_folder("sd1"), plugins=[Recorder, with_words(Word("<toy>", (vectors,)))], device="cpu")
    fields: dict[str, Any] = {"negative_prompt": "blue <toy>", "height": 32, "width": 32, "guidance_scale": 5.0}
    mine = ours(engine, prompt=prompt, seeds=[4], steps=3, use=["a"], **fields)
    other = theirs(pipe, [4], prompt=prompt, num_inference_steps=3, **fields)
    assert difference(mine, other) <= 1e-6
    plain = ours(engine, prompt=prompt, seeds=[4], steps=3, **fields)
    assert difference(plain, other) > 1e-3


def test_sdxl_has_vectors_for_each_encoder_and_none_leaves_the_text() -> None:
    wide = torch.cos(torch.arange(256.0)).view(2, 128)
    tables = [encoder.get_input_embeddings().weight for encoder in model("sdxl").text_encoders]  # type: ignore[operator]
    ids = model("sdxl").tokenizers[0]("cat", add_special_tokens=False).input_ids
    both = generate(with_words(Word("<x>", (VECTORS[:2], wide))), on=model("sdxl"), prompt="a <x>")
    one = generate(with_words(Word("cat", (tables[0][ids] * 2, None))), on=model("sdxl"), prompt="a cat")
    plain = generate(on=model("sdxl"), prompt="a cat")
    same = generate(with_words(Word("cat", (tables[0][ids], None))), on=model("sdxl"), prompt="a cat")
    assert same_pictures(same, plain)
    assert not same_pictures(one, plain)
    assert not same_pictures(both, generate(on=model("sdxl"), prompt="a <x>"))


@pytest.mark.parametrize("prompt", ["a category", "concat", "cats"])
def test_a_word_is_not_found_inside_another(prompt: str) -> None:
    used = generate(with_words(Word("cat", (VECTORS,))), prompt=prompt)
    assert same_pictures(used, generate(prompt=prompt))


def test_the_longest_word_counts_and_capitals_do_not() -> None:
    both = with_words(Word("<a>", (VECTORS[:1],)), Word("<A>-toy", (VECTORS[1:],)))
    only = with_words(Word("<a>-toy", (VECTORS[1:],)))
    assert same_pictures(generate(both, prompt="one <a>-TOY"), generate(only, prompt="one <a>-toy"))


def test_a_word_is_never_cut_between_two_windows() -> None:
    """75 places fill a window: three that begin at the 74th go to the next one, as a whole."""
    word = with_words(Word("<x>", (VECTORS,)))
    long = generate(word, prompt="cat " * 73 + "<x> dog")
    split = model().tokenizers[0]("cat " * 73, add_special_tokens=False).input_ids
    assert len(split) == 73
    assert not same_pictures(long, generate(prompt="cat " * 73 + "dog"))
    cut = generate(word, prompt="cat " * 74 + "<x> dog", long_prompt="cut")
    assert cut.lost_tokens == ("<x>", "dog")


def test_texts_are_encoded_anew_when_the_vectors_change() -> None:
    vectors = [VECTORS]
    engine = Engine(model(), plugins=[plugin("a", text=lambda run: ports.words(Word("<x>", (vectors[0],))))])
    fields: dict[str, Any] = {"seed": 3, "steps": 1, "height": 32, "width": 32, "use": ["a"]}
    first = engine.generate("a <x>", **fields)
    vectors[0] = VECTORS * 2
    assert not same_pictures(first, engine.generate("a <x>", **fields))


def test_the_same_word_twice_names_both() -> None:
    one, two = (with_words(Word(text, (VECTORS,)), name=name) for text, name in (("<X>", "one"), ("<x>", "two")))
    with pytest.raises(ConflictError, match=r"'<x>' is given by 'one' .* and by 'two'"):
        generate(one, two)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (Word(" ", (VECTORS,)), "without a letter"),
        (Word("<x>", (VECTORS, VECTORS)), "for 2 text encoders, and this model has 1"),
        (Word("<x>", (VECTORS[:, :-1],)), r"are \(3, 63\), and this text encoder needs \(places, 64\)"),
        (Word("<x>", (VECTORS[0],)), r"are \(64,\)"),
        (Word("<x>", (VECTORS[:0],)), r"are \(0, 64\)"),
        (Word("<x>", (VECTORS * float("nan"),)), "NaN or infinity"),
    ],
)
def test_what_fits_no_encoder_is_refused_before_the_run(word: Word, message: str) -> None:
    engine = Engine(model(), plugins=[with_words(word)])
    with pytest.raises(PluginError, match=message) as caught:
        engine.explain("a cat", use=["a"])
    assert (caught.value.plugin, caught.value.where) == ("a", "text.words")


def test_something_else_is_no_word() -> None:
    with pytest.raises(PluginError, match="expected Word"):
        generate(stage("a", ports.words, lambda: None))
