"""How the caption of one visit is made of a picture's captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .draws import uniforms

if TYPE_CHECKING:
    from sdcore_train.config import Captions


def caption_of_visit(captions: Sequence[str], options: Captions, *visit: object) -> str:
    """One of a picture's captions, dropped or varied as the options say.

    Args:
        captions: at least one.
        options: how captions are varied.
        visit: the seed and where in the training the visit is: decides everything.
    """
    which, dropped = uniforms(2, "caption", *visit)
    if dropped < options.dropout:
        return ""
    caption = captions[int(which * len(captions))]
    if options.shuffle or options.tag_dropout:
        caption = vary_tags(caption, options, *visit)
    return options.prefix + caption


def vary_tags(caption: str, options: Captions, *visit: object) -> str:
    """Tags shuffled and left out; the first ``options.keep`` stay where they are."""
    tags = [tag.strip() for tag in caption.split(options.separator)]
    tags = [tag for tag in tags if tag]
    head, rest = tags[: options.keep], tags[options.keep :]
    draws = uniforms(2 * len(rest), "tags", *visit)
    left = [(draws[2 * i + 1], tag) for i, tag in enumerate(rest) if draws[2 * i] >= options.tag_dropout]
    if options.shuffle:
        left.sort(key=lambda pair: pair[0])
    glue = options.separator if options.separator[-1].isspace() else options.separator + " "
    return glue.join(head + [tag for _, tag in left])
