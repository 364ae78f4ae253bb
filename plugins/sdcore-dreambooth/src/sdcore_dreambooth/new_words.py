"""New words that are trained: where their vectors begin, who holds them, how the engine sees them while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdcore import Contributions, Plugin, Run, hookimpl, ports

from .tokens import ids_of

if TYPE_CHECKING:
    import torch
    from sdcore_train import Job
    from torch import Generator, Tensor

    from sdcore import Word

Vectors = Mapping[str, "Tensor"]
"""Vectors (places, width) of a word by the name of their text encoder."""


def encoders_of(job: Job) -> dict[str, Any]:
    """The text encoders of a training's model by name."""
    return {name: part for name, part in job.model.components.items() if name.startswith("text_encoder")}


def first_vectors(table: Tensor, ids: list[int], places: int, generator: Generator | None = None) -> Tensor:
    """Vectors that a new word begins with.

    Args:
        table: (vocabulary, width) of the text encoder's token embeddings.
        ids: of the words that it begins as; vector i is that of token i, and they are gone through again if there
            are too few. None of them: vectors are drawn with the mean and the spread of the table.
        places: vectors.
        generator: on the CPU, for the latter.

    Returns:
        (places, width) float32.
    """
    import torch

    known = table.detach().float().cpu()
    if ids:
        return known[[ids[place % len(ids)] for place in range(places)]].clone()
    noise = torch.randn(places, known.shape[1], generator=generator)
    return known.mean(0) + noise * known.std(0)


def make_holder(words: Mapping[str, Vectors]) -> torch.nn.Module:
    """A module that holds the vectors of words as parameters, named "NUMBER:ENCODER" in the order of the words."""
    import torch

    holder = torch.nn.Module()
    for number, vectors in enumerate(words.values()):
        for encoder, value in vectors.items():
            holder.register_parameter(f"{number}:{encoder}", torch.nn.Parameter(value.clone(), requires_grad=False))
    return holder


def held(holder: torch.nn.Module, texts: list[str]) -> dict[str, dict[str, torch.nn.Parameter]]:
    """The parameters of a holder, by word and text encoder."""
    found: dict[str, dict[str, torch.nn.Parameter]] = {text: {} for text in texts}
    for name, parameter in holder.named_parameters():
        number, _, encoder = name.partition(":")
        found[texts[int(number)]][encoder] = parameter
    return found


def word_of(text: str, vectors: Vectors, encoders: Mapping[str, Any]) -> Word:
    """A word for the port ``words``."""
    from sdcore import Word

    return Word(text, tuple(vectors.get(name) for name in encoders))


def beginning(job: Job, text: str, initial: str | None, places: int) -> dict[str, Tensor]:
    """First vectors of a word for every text encoder of a training's model."""
    from sdcore_train import generator

    return {
        name: first_vectors(
            encoder.get_input_embeddings().weight,
            ids_of(tokenizer, initial) if initial else [],
            places,
            generator(job.config.seed, "new-word", text, name),
        )
        for tokenizer, (name, encoder) in zip(job.model.tokenizers, encoders_of(job).items(), strict=True)
    }


def plugin_for(words: Mapping[str, Vectors], encoders: Mapping[str, Any]) -> type[Plugin]:
    """An engine plugin that knows words that are in memory: for sample pictures."""

    class InTraining(Plugin):
        """Words that are being trained."""

        name = "words-in-training"

        @hookimpl
        def text(self, run: Run) -> Contributions:
            """Contribute the words."""
            found = {text: {name: v.detach() for name, v in vectors.items()} for text, vectors in words.items()}
            return [ports.words(word_of(text, vectors, encoders)) for text, vectors in found.items()]

    return InTraining
