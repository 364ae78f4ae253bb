"""What is trained: by the plugins ``full`` or ``lora``, with DreamBooth's options beneath those that users give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sdcore_train import ConfigError, TrainConfig, Training, changed, known_plugins

from sdcore.plugin import nearest
from sdcore.request import explain_validation
from sdcore.uses import Use

if TYPE_CHECKING:
    from sdcore_train import Job

    from .options import DreamBooth

PACKAGES = {"full": "sdcore-train", "lora": "'sdcore-dreambooth[lora]'"}


def with_method(config: TrainConfig, options: DreamBooth) -> TrainConfig:
    """The configuration with the plugin of the mode in use; as it is, if the user put it there.

    Raises:
        ConfigError: it is not installed; the other one is in use too; an option of it is given twice.
    """
    mode = options.mode
    for other in PACKAGES.keys() - {mode}:
        if used(config, other) is not None:
            raise ConfigError(
                f"mode is {mode!r}, and {other!r} is in `use`: only one of them can be trained; take {other!r} out of "
                f"`use`, or set mode to {other!r}"
            )
    wanted, own = wanted_of(options), used(config, mode)
    if own is None:
        known = known_plugins()
        if mode not in known:
            raise ConfigError(
                f"there is no training plugin {mode!r}: pip install {PACKAGES[mode]}.{nearest(mode, known)}"
            )
        return config.model_copy(update={"use": (*config.use, Use(plugin=mode, options=wanted))})
    given = {*options.lora, *(options.model_fields_set & {"text_encoder"})} & wanted.keys()
    for name in sorted(given & own.keys()):
        if own[name] != wanted[name]:
            raise ConfigError(
                f"{name} of {mode} is {own[name]!r} in `use`, and {wanted[name]!r} in what the method is given: "
                "leave one of them out"
            )
    return config


def wanted_of(options: DreamBooth) -> dict[str, Any]:
    """The options that the plugin of the mode gets, where the user says no others."""
    found: dict[str, Any] = {"text_encoder": options.text_encoder}
    if options.mode == "lora":
        found["trigger"] = ", ".join(f"{one.token} {one.class_name}" for one in options.all_subjects)
        found |= options.lora
    return found


def used(config: TrainConfig, name: str) -> dict[str, Any] | None:
    """The options that a training plugin in use was given, or None if it is not in use."""
    known = known_plugins()
    kind = known[name].Options if name in known else None
    for entry in config.use:
        if isinstance(entry, Use):
            if entry.plugin == name:
                return dict(entry.options)
        elif type(entry) is kind:
            return dict(entry.model_dump(mode="json", exclude_unset=True))
    return None


def complete(job: Job, options: DreamBooth, asking: Training) -> Iterator[str]:
    """Give a plugin that the user put in use what was left open there; yields what is wrong with that.

    Its own check comes afterwards, because commands put their method first. Where it came before, it is repeated.
    """
    checked = True
    for _, plugin in job.plugins:
        if plugin is asking:
            checked = False
        if plugin.name != options.mode:
            continue
        left = {name: v for name, v in wanted_of(options).items() if name not in plugin.options.model_fields_set}
        if not left:
            continue
        try:
            plugin.options = changed(plugin.options, **left)
        except ValidationError as error:
            yield f"{plugin.name}: {explain_validation(error)}"
        else:
            yield from plugin.check(job) if checked else ()
