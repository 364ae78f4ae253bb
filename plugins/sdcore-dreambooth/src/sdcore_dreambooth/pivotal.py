"""Pivotal tuning as a training plugin: new words and the model (or a LoRA) in one training (arXiv 2106.05744)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sdcore import Contributions

from .options import DreamBooth
from .training import DreamBoothTraining
from .word_training import WordTraining

if TYPE_CHECKING:
    from sdcore_train import Job, Trained
    from sdcore_train.events import TrainEvent
    from torch import Tensor


class Pivotal(DreamBooth):
    """As DreamBooth, and each token becomes a new word with vectors of its own."""

    vectors: int = Field(default=1, ge=1, le=64, description="vectors of each token and text encoder")
    initial: str | None = Field(
        default=None, description="the words that tokens begin as; None is the class of the subject"
    )
    word_learning_rate: float = Field(default=1e-3, gt=0, le=10, description="of the vectors")
    words_until: float = Field(
        default=0.5, gt=0, le=1, description="share of the training after which the vectors stay as they are"
    )


class PivotalTraining(DreamBoothTraining):
    """DreamBooth with words that are trained together with the model; a LoRA's file of kohya's layout holds them."""

    name = "pivotal"
    Options = Pivotal
    command = True
    about = "teach a model a subject by a new word and a LoRA (or the model) together"
    options: Pivotal
    rare_tokens = False
    _words: WordTraining
    _learnt: dict[str, dict[str, Tensor]]

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The vectors; the rest is the business of the plugins ``full`` and ``lora``."""
        first = {one.token: self.options.initial or one.class_name for one in self.options.all_subjects}
        self._words = WordTraining(job, first, self.options.vectors)
        yield self._words.trained(self.options.word_learning_rate)

    def stages(self, job: Job) -> Contributions:
        """As DreamBooth, and the words."""
        found: Any = super().stages(job)
        return [*found, *self._words.stages(), self._words.stopping(self.options.words_until)]

    def sampling(self, job: Job) -> Iterable[tuple[type, Any]]:
        """The words, as they are now."""
        return [self._words.sampling()]

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The words as files, unless all that is made is a LoRA's file that takes them in."""
        from .word_files import save_words

        # As they are now: averaged, if the training keeps an average.
        self._learnt = {
            word: {name: value.detach().clone() for name, value in vectors.items()}
            for word, vectors in self._words.vectors.items()
        }
        lora = _lora_of(job)
        if lora is None:
            return save_words(folder, self._learnt)
        # Only programs that read kohya's names look for words in a LoRA's file; diffusers refuses a file with them.
        return () if lora.layout == "kohya" else save_words(folder, self._learnt, taken=[lora.file])

    def event(self, job: Job, event: TrainEvent) -> None:
        """Put the words into the LoRA's file with kohya's names when it is written."""
        from sdcore_train.events import Ended

        from .bundles import bundle

        lora = _lora_of(job)
        if isinstance(event, Ended) and lora is not None and lora.layout in ("kohya", "both"):
            for path in event.files:
                if path.name == f"{lora.file}.safetensors":
                    bundle(path, self._learnt)


def _lora_of(job: Job) -> Any:
    """The options of the LoRA that is trained, or None."""
    return next((plugin.options for _, plugin in job.plugins if plugin.name == "lora"), None)
