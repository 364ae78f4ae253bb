"""What a user writes to train a subject."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sdcore import Options

from .prior_options import Prior
from .subjects import Subject, Texts, doubled, one_or_many


class Subjects(Options):
    """What is learnt: several subjects, or one by its own fields."""

    subjects: Annotated[tuple[Subject, ...], BeforeValidator(one_or_many)] = Field(
        default=(),
        description="what is learnt: {path, token, class_name, prompts, class_prompts, class_folder, repeats} each",
    )
    path: str | None = Field(default=None, description="of a single subject: folder of its pictures")
    token: str | None = Field(default=None, description="of a single subject: identifier, such as 'sks'")
    class_name: str | None = Field(default=None, description="of a single subject: what it is, such as 'cat'")
    prompts: Texts = Field(
        default=(), description="of a single subject: captions, such as 'a photo of a [token] [class]'"
    )
    class_prompts: Texts = Field(default=(), description="of a single subject: prompts of the class pictures")
    class_folder: str | None = Field(default=None, description="of a single subject: folder of class pictures of yours")

    @model_validator(mode="after")
    def _some_subject(self) -> Subjects:
        problems = list(doubled(self.all_subjects))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def all_subjects(self) -> tuple[Subject, ...]:
        """The subjects, that of the shorthand among them.

        Raises:
            ValueError: there is none, or the shorthand is not complete.
        """
        single = {
            name: value
            for name in ("path", "token", "class_name", "prompts", "class_prompts", "class_folder")
            if (value := getattr(self, name)) not in (None, ())
        }
        if single:
            missing = [name for name in ("path", "token", "class_name") if name not in single]
            if missing:
                wanted = {"path": "the folder of its pictures", "token": "'sks'", "class_name": "'cat'"}
                raise ValueError(
                    "the subject is not complete: give "
                    + " and ".join(f"{name} ({wanted[name]})" for name in missing)
                    + " too"
                )
            return (*self.subjects, Subject(**single))
        if not self.subjects:
            raise ValueError("no subject: give path, token and class_name, or `subjects`")
        return self.subjects


class DreamBooth(Prior, Subjects):
    """DreamBooth (arXiv 2208.12242): a model or a LoRA that knows one or several subjects by their tokens."""

    mode: Literal["full", "lora"] = Field(default="lora", description="train the model itself, or a LoRA for it")
    text_encoder: bool = Field(default=False, description="train the text encoders too")
    lora: dict[str, Any] = Field(
        default_factory=dict, description="options of the training plugin lora, such as {rank: 8}"
    )
