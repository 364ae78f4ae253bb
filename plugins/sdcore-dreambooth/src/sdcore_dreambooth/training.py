"""DreamBooth as a training plugin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore_train import Batch, ConfigError, Source, TrainConfig, Training, TrainStep, changed, ports

from sdcore import Contributions

from .checks import look_at_data, problems_of, say_doubts
from .class_pictures import ClassPictures, class_pictures, draw_class_pictures
from .configuring import enough, with_defaults, with_sources
from .method import complete, with_method
from .options import DreamBooth
from .prior import class_share, prior_weights
from .subjects import ANY

if TYPE_CHECKING:
    from sdcore_train import Job, Outcome
    from torch import Tensor

    from .subjects import Subject

CLASS_ROLE = "class"
RATES = {"full": 5e-6, "lora": 1e-4}
STEPS = 400


class DreamBoothTraining(Training):
    """Binds tokens to subjects; what is trained is the business of the plugins ``full`` and ``lora``."""

    name = "dreambooth"
    Options = DreamBooth
    command = True
    about = "teach a model a subject from a few pictures (full or LoRA)"
    options: DreamBooth
    rare_tokens = True

    def __init__(self, options: DreamBooth) -> None:
        super().__init__(options)
        self._trial: list[Path] = []

    @cached_property
    def roles(self) -> dict[str, Subject]:
        """The subjects by the role of their pictures."""
        return {f"subject-{number}": subject for number, subject in enumerate(self.options.all_subjects, 1)}

    def classes(self, config: TrainConfig) -> list[ClassPictures]:
        """The class pictures that the model draws, each once."""
        if not self.options.prior_weight:
            return []
        own = self.options.class_cache
        cache = Path(own).expanduser() if own else Path(config.output) / "class-pictures"
        found = {
            subject.about_class: class_pictures(subject.about_class, self.options, config, cache)
            for subject in self.options.all_subjects
            if subject.class_folder is None
        }
        return list(found.values())

    def configure(self, config: TrainConfig) -> TrainConfig:
        """Add the pictures of the subjects and of their classes, and who trains; fill in what was left open."""
        options = self.options
        config = with_sources(config, [*enough(self._subjects(), config), *self._classes(config)])
        config = with_method(config, options)
        fields: dict[str, object] = {
            "captions": with_defaults(config.captions, dropout=0.0),
            "optimizer": with_defaults(config.optimizer, learning_rate=RATES[options.mode]),
            "samples": with_defaults(config.samples, prompts=self._sample_prompts()),
        }
        if config.steps is None and config.epochs is None:
            fields["steps"] = STEPS
        if any(source.role == CLASS_ROLE for source in config.data):
            fields |= self._shared(config)
        return config.model_copy(update=fields)

    def check(self, job: Job) -> Iterable[str]:
        """Everything that can be known before class pictures are drawn."""
        yield from complete(job, self.options, self)
        yield from problems_of(job, self.options)
        say_doubts(job, self.options, self.rare_tokens)

    def prepare(self, job: Job) -> None:
        """Draw the class pictures that are missing, if the other pictures can be used."""
        classes = self.classes(job.config)
        if classes:
            look_at_data(job, {str(wanted.folder) for wanted in classes})
        for wanted in classes:
            self._trial += draw_class_pictures(job, wanted, self.options)

    def close(self, job: Job) -> None:
        """Of a trial, keep nothing."""
        for path in self._trial if job.dry else ():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty yet
                path.parent.rmdir()

    def stages(self, job: Job) -> Contributions:
        """Captions are filled in; the two kinds of pictures are weighed."""
        self._warn_of_captions(job)
        found = [ports.batch(self._fill)]
        if any(record.role == CLASS_ROLE for record in job.data.records):
            found.append(ports.loss_weights(self._weigh))
        return found

    def _fill(self, step: TrainStep, batch: Batch) -> Batch:
        import torch

        shares = torch.rand(len(batch), generator=step.generator("dreambooth-prompt")).tolist()
        roles = self.roles
        captions = tuple(
            roles[role].caption(caption, share) if role in roles else caption
            for caption, role, share in zip(batch.captions, batch.roles, shares, strict=True)
        )
        return replace(batch, captions=captions)

    def _weigh(self, outcome: Outcome, weights: Tensor) -> Tensor:
        import torch

        of_class = torch.tensor([role == CLASS_ROLE for role in outcome.batch.roles])
        return weights * prior_weights(of_class, self.options.prior_weight).to(weights)

    def _subjects(self) -> list[Source]:
        return [
            Source.model_validate({"path": one.path, "caption": ANY, "repeats": one.repeats, "role": role})
            for role, one in self.roles.items()
        ]

    def _classes(self, config: TrainConfig) -> list[Source]:
        if not self.options.prior_weight:
            return []
        found: list[dict[str, object]] = [
            {"path": str(one.folder), "kind": "folder", "role": CLASS_ROLE} for one in self.classes(config)
        ]
        found += [
            {"path": subject.class_folder, "caption": subject.about_class[0], "role": CLASS_ROLE}
            for subject in self.options.all_subjects
            if subject.class_folder is not None
        ]
        return [Source.model_validate(source) for source in found]

    def _shared(self, config: TrainConfig) -> dict[str, object]:
        """What makes every batch hold pictures of both kinds."""
        size = config.batch_size if "batch_size" in config.model_fields_set else 2
        if size < 2:
            raise ConfigError(
                f"batch_size is {size}: with prior preservation each batch holds pictures of the subject and of the "
                "class, so 2 or more are needed; or set prior_weight to 0"
            )
        if config.pictures.buckets and "buckets" in config.pictures.model_fields_set:
            raise ConfigError(
                "pictures.buckets is true: with prior preservation all pictures of a batch need one size; leave it "
                "out, or set prior_weight to 0"
            )
        shares = {CLASS_ROLE: class_share(size, self.options.class_share)}
        return {"batch_size": size, "pictures": changed(config.pictures, buckets=False, shares=shares)}

    def _sample_prompts(self) -> tuple[str, ...]:
        return tuple(subject.caption(subject.prompts[0], 0.0) for subject in self.options.all_subjects)

    def _warn_of_captions(self, job: Job) -> None:
        for role, subject in self.roles.items():
            records = [record for record in job.data.records if record.role == role]
            filled = {subject.caption(text, 0.0).lower() for record in records for text in record.captions}
            without = sorted(text for text in filled if subject.token.lower() not in text)
            if without:
                job.say(
                    f"warning: {len(without)} captions in {subject.path} name neither [token] nor {subject.token!r}, "
                    f"such as {without[0]!r}; their pictures will not be bound to it"
                )
