"""Words in training: what textual inversion and pivotal tuning have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdcore_train import ports

from sdcore import Contributions

from .new_words import beginning, encoders_of, held, make_holder, plugin_for, word_of

if TYPE_CHECKING:
    from sdcore_train import Batch, Job, Trained, TrainStep

    from sdcore import Plugin

NETWORK = "words"


class WordTraining:
    """The vectors of some words while they are trained.

    Args:
        job: the training.
        initials: each word with the words that it begins as, or None.
        places: vectors of each word.
    """

    def __init__(self, job: Job, initials: Mapping[str, str | None], places: int) -> None:
        self._encoders = encoders_of(job)
        self._holder = make_holder({text: beginning(job, text, first, places) for text, first in initials.items()})
        self.vectors = held(self._holder, list(initials))

    def trained(self, learning_rate: float | None) -> Trained:
        """What the trainer is told."""
        from sdcore_train import Trained

        parameters = dict(self._holder.named_parameters())
        return Trained(NETWORK, self._holder, parameters, learning_rate, weight_decay=0.0, called=False)

    def stages(self) -> list[Any]:
        """The words, for captions."""
        return [ports.words(word_of(text, vectors, self._encoders)) for text, vectors in self.vectors.items()]

    def stopping(self, fraction: float) -> Contributions:
        """A stage that leaves the words as they are from a fraction of the training on."""

        def look(step: TrainStep, batch: Batch) -> None:
            learning = step.index < fraction * step.steps
            for parameter in self._holder.parameters():
                parameter.requires_grad_(learning)

        return ports.batch(look)

    def sampling(self) -> tuple[type[Plugin], str]:
        """What draws sample pictures with the words."""
        plugin = plugin_for(self.vectors, self._encoders)
        return plugin, plugin.name
