"""A subject: its pictures, the token that names it, what kind of thing it is, and the captions that follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from sdcore import Options

TOKEN, CLASS, ANY = "[token]", "[class]", "[prompt]"
"""What stands in captions for the identifier, for the class, and for one of the subject's prompts."""


def one_or_many(value: Any) -> Any:
    """A list of one, where a user wrote the one."""
    return (value,) if isinstance(value, str | dict) or hasattr(value, "model_dump") else value


Texts = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]


class Subject(Options):
    """One subject to be learnt: ``Subject(path="my-cat", token="sks", class_name="cat")``."""

    path: str = Field(min_length=1, description="folder of its pictures: three to twenty of them")
    token: str = Field(description="identifier, a word that means nothing yet, such as 'sks'")
    class_name: str = Field(description="what it is, in words that the model knows, such as 'cat'")
    prompts: Texts = Field(
        default=("a [token] [class]",),
        description="captions of pictures that have none of their own; one of them is drawn for each visit. [token] "
        "and [class] stand for the identifier and the class, in pictures' own captions too",
    )
    class_prompts: Texts = Field(
        default=(),
        description="prompts of the class pictures; empty: `prompts` without [token], or with the class in its place "
        "where they do not name it",
    )
    class_folder: str | None = Field(
        default=None, description="folder of class pictures of yours, taken as it is; None lets the model draw them"
    )
    repeats: int = Field(
        default=1, ge=1, le=10_000, description="how often each of its pictures is visited in an epoch"
    )

    @field_validator("token", "class_name")
    @classmethod
    def _some_word(cls, value: str, info: Any) -> str:
        value = value.strip()
        if not value:
            what = "the identifier, such as 'sks'" if info.field_name == "token" else "the class, such as 'cat'"
            raise ValueError(f"{info.field_name} is empty; give {what}")
        return value

    @field_validator("token")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if any(letter.isspace() or letter in "[]" for letter in value):
            raise ValueError(f"token is {value!r}; it must be one word, without spaces and brackets")
        return value

    @field_validator("prompts")
    @classmethod
    def _with_token(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("prompts is empty; give at least one, such as 'a [token] [class]'")
        for prompt in value:
            if TOKEN not in prompt:
                raise ValueError(f"the prompt {prompt!r} has no [token], so nothing would name the subject")
        return value

    @field_validator("class_prompts")
    @classmethod
    def _without_token(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in value:
            if TOKEN in prompt or not prompt.strip():
                raise ValueError(f"the class prompt {prompt!r} must name the class alone: no [token], and not empty")
        return value

    @property
    def about_class(self) -> tuple[str, ...]:
        """The class prompts, filled in."""
        given = self.class_prompts or tuple(without_token(prompt, self.class_name) for prompt in self.prompts)
        return tuple(dict.fromkeys(prompt.replace(CLASS, self.class_name) for prompt in given))

    def caption(self, text: str, share: float) -> str:
        """A caption with its placeholders filled in.

        Args:
            text: may hold [token], [class], or [prompt], which stands for one of the subject's prompts.
            share: 0 to 1 (exclusive): which of the prompts.
        """
        if ANY in text:
            text = text.replace(ANY, self.prompts[int(share * len(self.prompts))])
        return text.replace(TOKEN, self.token).replace(CLASS, self.class_name)


def without_token(prompt: str, class_name: str) -> str:
    """A prompt about the class alone: "a [token] [class]" is "a [class]".

    Where a prompt does not name the class, the class stands in for the token: "a photo of [token]" is "a photo of
    [class]".
    """
    written = re.search(rf"(?<!\w){re.escape(class_name)}(?!\w)", prompt, re.IGNORECASE)
    rest = prompt.replace(TOKEN, " " if written or CLASS in prompt else CLASS)
    return " ".join(rest.split()).replace(" ,", ",").replace(" .", ".")


def doubled(subjects: Sequence[Subject]) -> list[str]:
    """What is wrong with several subjects together."""
    seen: dict[str, str] = {}
    found = []
    for subject in subjects:
        key = subject.token.lower()  # the tokenizers of CLIP know no capitals
        if key in seen:
            found.append(
                f"the subjects in {seen[key]} and {subject.path} both have the token {subject.token!r}; give each "
                "one of its own"
            )
        seen.setdefault(key, subject.path)
    return found
