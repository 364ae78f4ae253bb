"""Which layers of a model get a change, and how large: from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]

_ATTENTION = r"\.(to_q|to_k|to_v|to_out\.0|q_proj|k_proj|v_proj|out_proj)$"
_FEED_FORWARD = r"\.(ff\.net\.0\.proj|ff\.net\.2|fc1|fc2)$"
_LINEAR = r"\.(proj_in|proj_out|time_emb_proj)$"
_CONVOLUTIONS = r"\.(conv1|conv2|conv_shortcut|(down|up)samplers\.0\.conv)$"
GROUPS: Mapping[str, str] = {
    "attention": _ATTENTION,
    "attention+feed-forward": f"{_ATTENTION}|{_FEED_FORWARD}",
    "linear": f"{_ATTENTION}|{_FEED_FORWARD}|{_LINEAR}",
    "linear+conv": f"{_ATTENTION}|{_FEED_FORWARD}|{_LINEAR}|{_CONVOLUTIONS}",
}
"""What the names of layers end with. "linear" has the 1x1 convolutions about SD1's attention, as kohya's trainer;
layers outside of blocks (conv_in, time_embedding, ...) take a regular expression."""


@dataclass(frozen=True)
class Sizes:
    """Rank and alpha of one kind of layer."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Target:
    """A layer that gets a change.

    Attributes:
        component: "unet", "text_encoder" or "text_encoder_2".
        module: its name in files, without "text_model.".
        path: its name in the network.
        shape: of its weight.
        sizes: rank and alpha.
    """

    component: str
    module: str
    path: str
    shape: Shape
    sizes: Sizes


def sizes_of(
    rank: int, alpha: float | None, conv_rank: int | None, conv_alpha: float | None, text_rank: int | None
) -> dict[str, Sizes]:
    """Rank and alpha of "linear" and "conv" layers of the U-Net and of those of the "text" encoders."""
    share = 1.0 if alpha is None else alpha / rank
    conv, text = conv_rank or rank, text_rank or rank
    return {
        "linear": Sizes(rank, share * rank),
        "conv": Sizes(conv, share * conv if conv_alpha is None else conv_alpha),
        "text": Sizes(text, share * text),
    }


def is_large_convolution(shape: Shape) -> bool:
    """Whether a weight is that of a convolution of more than 1x1."""
    return len(shape) == 4 and shape[2:] != (1, 1)


def choose(
    modules: Mapping[str, Mapping[str, Shape]],
    paths: Mapping[tuple[str, str], str],
    components: tuple[str, ...],
    targets: str,
    sizes: Mapping[str, Sizes],
) -> Iterator[Target]:
    """The layers that are meant.

    Args:
        modules: by component, names and shapes of weights.
        paths: (component, name) to the name in the network.
        components: those that are trained.
        targets: a key of `GROUPS`, or a regular expression that is searched for in "component.name".
        sizes: of `sizes_of`.
    """
    wanted = re.compile(GROUPS.get(targets, targets))
    for component in components:
        for module, shape in modules.get(component, {}).items():
            if len(shape) not in (2, 4) or ".embeddings." in f".{module}" or not wanted.search(f"{component}.{module}"):
                continue
            kind = "conv" if is_large_convolution(shape) else "linear" if component == "unet" else "text"
            yield Target(component, module, paths[component, module], shape, sizes[kind])
