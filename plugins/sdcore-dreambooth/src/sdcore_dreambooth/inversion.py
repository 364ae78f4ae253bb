"""Textual inversion as a training plugin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore_train import Batch, ConfigError, Source, TrainConfig, Training, TrainStep, changed, ports

from sdcore import Contributions

from .checks import folder_problems
from .configuring import enough, with_defaults, with_sources
from .inversion_options import LearnWord
from .subjects import ANY, TOKEN
from .tokens import ids_of, is_known
from .word_training import WordTraining

if TYPE_CHECKING:
    from sdcore_train import Job, Trained

RATE, STEPS = 5e-3, 1000


class TextualInversionTraining(Training):
    """Trains the vectors of a new word, and nothing else; writes them as files of a few kilobytes."""

    name = "textual-inversion"
    Options = LearnWord
    command = True
    about = "teach a model a new word from a few pictures"
    options: LearnWord
    _words: WordTraining

    def configure(self, config: TrainConfig) -> TrainConfig:
        """Add the folder; fill in what was left open: built-in captions, where a source has none."""
        options = self.options
        config = config.model_copy(update={"data": tuple(map(_captioned, config.data))})
        if options.path is not None:
            config = with_sources(
                config, enough([Source.model_validate({"path": options.path, "caption": ANY})], config)
            )
        fields: dict[str, Any] = {
            "captions": with_defaults(config.captions, dropout=0.0),
            "optimizer": with_defaults(config.optimizer, learning_rate=RATE),
            "samples": with_defaults(config.samples, prompts=(options.captions[0].replace(TOKEN, options.word),)),
        }
        if config.steps is None and config.epochs is None:
            fields["steps"] = STEPS
        return config.model_copy(update=fields)

    def check(self, job: Job) -> Iterable[str]:
        """Everything that can be known before the data is read."""
        options = self.options
        if job.model.family == "refiner":
            yield "textual-inversion: the SDXL refiner only finishes pictures of other models; use the base model"
        if options.path is not None:
            yield from folder_problems(options.path, f"pictures of {options.word!r}")
        if any(is_known(tokenizer, options.word) for tokenizer in job.model.tokenizers):
            job.say(f"warning: {options.word!r} is a word that the model knows: what it meant is lost in prompts")
        if options.initial:
            pieces = max(len(ids_of(tokenizer, options.initial)) for tokenizer in job.model.tokenizers)
            if pieces > options.vectors:
                job.say(
                    f"warning: {options.initial!r} is {pieces} tokens, and {options.word!r} has {options.vectors} "
                    "vectors: it begins as the first of them"
                )

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The vectors."""
        self._words = WordTraining(job, {self.options.word: self.options.initial}, self.options.vectors)
        yield self._words.trained(None)

    def stages(self, job: Job) -> Contributions:
        """The word; captions are filled in."""
        self._check_captions(job)
        return [ports.batch(self._fill), *self._words.stages()]

    def _check_captions(self, job: Job) -> None:
        """A batch whose captions do not name the word would teach nothing."""
        named = (ANY, TOKEN, self.options.word)
        captions = {caption for record in job.data.records for caption in record.captions}
        without = sorted(caption for caption in captions if not any(name in caption for name in named))
        if without:
            raise ConfigError(
                f"{len(without)} of {len(captions)} captions name neither [token] nor {self.options.word!r}, such as "
                f"{without[0]!r}: write [token] where the word belongs, or take the captions away, and it is learnt "
                "from built-in ones"
            )

    def _fill(self, step: TrainStep, batch: Batch) -> Batch:
        import torch

        choices = self.options.captions
        picks = torch.randint(len(choices), (len(batch),), generator=step.generator("textual-inversion")).tolist()
        captions = tuple(
            caption.replace(ANY, choices[pick]).replace(TOKEN, self.options.word)
            for caption, pick in zip(batch.captions, picks, strict=True)
        )
        return replace(batch, captions=captions)

    def sampling(self, job: Job) -> Iterable[tuple[type, Any]]:
        """The word, as it is now."""
        return [self._words.sampling()]

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The word in the wanted layouts."""
        from .word_files import save_words

        return save_words(folder, self._words.vectors, self.options.layouts)


def _captioned(source: Source) -> Source:
    """A source whose pictures are about the word where they have no caption; without words it would learn nothing."""
    return source if (source.caption or "").strip() else changed(source, caption=ANY)
