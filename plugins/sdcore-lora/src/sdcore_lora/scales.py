"""How much of a change counts: alpha and rank, as trainers meant them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .deltas import rank_of

Shapes = Mapping[str, tuple[int, ...]]


def scale_of(algorithm: str, shapes: Shapes, alpha: float | None, settings: Mapping[str, Any], module: str) -> float:
    """The factor of one change: alpha / rank, 1 where the file says nothing.

    Args:
        algorithm: such as "lora".
        shapes: of its parts.
        alpha: from the file, or None.
        settings: of peft (``adapter_config.json``), or empty.
        module: name of the module, for peft's patterns.
    """
    if algorithm in ("full", "norm"):
        return 1.0
    rank = rank_of(shapes)
    if settings:
        default = settings.get("r", rank or 1)
        r = float(_by_pattern(settings.get("rank_pattern"), module, default) or default)
        value = _by_pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", settings.get("alpha", r)))
        return float(value) / (math.sqrt(r) if settings.get("use_rslora") else r)
    if algorithm == "lokr" and "lokr_w1" in shapes and "lokr_w2" in shapes:
        return 1.0  # LyCORIS: alpha counts only where something is decomposed
    if alpha is None or not rank:
        return 1.0
    return alpha / rank


def _by_pattern(patterns: Any, module: str, default: Any) -> Any:
    """peft's patterns are regular expressions for the end of a name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def settings_by_component(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """peft's settings that diffusers writes into a file's metadata, by component; empty if there are none."""
    try:
        flat = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for key, value in flat.items() if isinstance(flat, dict) else ():
        component, _, name = str(key).partition(".")
        if name:
            found.setdefault(component, {})[name] = value
    return found
