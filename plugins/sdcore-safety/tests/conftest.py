from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from sdcore_safety import ImageCheck, PromptCheck, SafetyPlugin
from transformers.utils import logging as transformers_logging

from sdcore import Engine, Plugin, Registry, hookimpl
from sdcore.testing.tiny import tiny_folder

PROMPT = "a red apple, flat style"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
    yield
    diffusers_logging.set_verbosity(before[0])
    transformers_logging.set_verbosity(before[1])
    diffusers_logging.enable_progress_bar()
    transformers_logging.enable_progress_bar()


class Behaviour:
    """What the test's own checks do."""

    image: Callable[[Image.Image], Any] = staticmethod(lambda image: {"violence": 0.0})
    prompt: Callable[[str], Any] = staticmethod(lambda text: {"violence": 0.0})
    seen: list[Image.Image]


class Watcher(ImageCheck):
    name, version, categories = "watcher", "7", ("violence",)

    def score(self, image: Image.Image) -> Mapping[str, float]:
        Behaviour.seen.append(image)
        return Behaviour.image(image)


class Reader(PromptCheck):
    name, version, categories = "reader", "1", ("violence",)

    def score(self, text: str) -> Mapping[str, float]:
        return Behaviour.prompt(text)


class Broken(ImageCheck):
    name = "broken"

    def __init__(self, settings: Any) -> None:
        raise FileNotFoundError("weights.safetensors is missing")

    def score(self, image: Image.Image) -> Mapping[str, float]:
        raise AssertionError


class Company(Plugin):
    """A third party that brings checks."""

    name = "company"

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.add("safety_check", "watcher", Watcher)
        registry.add("safety_check", "reader", Reader)
        registry.add("safety_check", "broken", Broken)
        registry.add("safety_check", "no-check", "json:dumps")


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> type[Behaviour]:
    """What the checks ``watcher`` and ``reader`` do in this test."""
    monkeypatch.setattr(Behaviour, "image", staticmethod(lambda image: {"violence": 0.0}))
    monkeypatch.setattr(Behaviour, "prompt", staticmethod(lambda text: {"violence": 0.0}))
    monkeypatch.setattr(Behaviour, "seen", [], raising=False)
    return Behaviour


@functools.cache
def engine_of(family: str, **settings: Any) -> Engine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Engine.load(tiny_folder(family, **settings), plugins=[SafetyPlugin, Company])


@pytest.fixture
def engine() -> Engine:
    return engine_of("sd1")
