"""What the registry's kind ``verifier`` holds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdcore.errors import PluginLoadError
from sdcore.plugin import Options

from .findings import Finding
from .subject import Subject

Check = Callable[[Subject, Any], Finding]


@dataclass(frozen=True)
class Verifier:
    """Something that looks at a picture: ``registry.add("verifier", "stamps", Verifier(check, StampOptions, "..."))``.

    Attributes:
        check: a function of the :class:`Subject` and of options, or its place as ``"module:function"``, which is
            imported when it is needed. It may raise :class:`sdcore.SdcoreError` for options that cannot be used;
            whatever else it raises becomes a finding ``unchecked``. It never raises for what is in the picture.
        options: the class of its options, all of which have defaults, or its place; None for none. An option named
            ``anchors`` gets the root certificates that the user trusts.
        about: what it looks for, in a few words.
    """

    check: Check | str
    options: type[Options] | str | None = None
    about: str = ""

    def options_class(self) -> type[Options] | None:
        """The class of its options.

        Raises:
            PluginLoadError: it cannot be imported.
        """
        found = _resolved(self.options)
        if found is not None and not (isinstance(found, type) and issubclass(found, Options)):
            raise PluginLoadError(f"the options of a verifier are a subclass of sdcore.Options, got {found!r}")
        return found

    def function(self) -> Check:
        """The function that looks.

        Raises:
            PluginLoadError: it cannot be imported.
        """
        found: Check = _resolved(self.check)
        return found


def _resolved(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    module, _, attribute = value.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginLoadError(f"a verifier names {value!r}, which cannot be imported: {error}") from error
