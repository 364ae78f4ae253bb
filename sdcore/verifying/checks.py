"""``sdcore.verify``: every verifier looks at a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from sdcore.errors import PluginError, RequestError, SdcoreError
from sdcore.host import PluginHost
from sdcore.plugin import Options, Plugin, nearest
from sdcore.registry import Registry
from sdcore.request import explain_validation
from sdcore.uses import Use, read_uses

from .findings import Finding
from .subject import MAX_BYTES, MAX_PIXELS, Subject, read_subject
from .verification import Verification
from .verifier import Verifier

RECORD = Verifier("sdcore.verifying.recorded:check", about="the record inside it")


def verify(
    source: str | os.PathLike[str] | bytes,
    *,
    anchors: str | os.PathLike[str] | None = None,
    use: Iterable[Options | Use | str | Mapping[str, Any]] | Options | Use | str = (),
    plugins: Iterable[str | type[Plugin]] | None = None,
    host: PluginHost | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Verification:
    """Find out what a picture says about where it comes from, and whether that can be believed.

    Every installed verifier looks: the core's reads the record; those of ``sdcore-watermark`` look for watermarks and
    content credentials.

    Args:
        source: a picture, as a path or as the bytes of a file. It is untrusted.
        anchors: a PEM file with the root certificates that you trust, for every verifier that knows trust.
        use: options of verifiers, as ``"watermark:key=mark.key"``, as ``{"plugin": ..., "options": ...}`` or as
            options objects.
        plugins: whose verifiers look, as in :meth:`sdcore.Engine.load`; None for all that are installed.
        host: the plugins of an engine (``engine.host``), instead of ``plugins``.
        max_bytes: the largest file that is read.
        max_pixels: the largest picture that is decoded.

    Raises:
        ImageError: the file is missing, damaged, not a picture, or beyond a limit.
        RequestError: options that a verifier does not have, or of a verifier that is not installed.
    """
    if host is None:
        host = PluginHost(plugins)
    verifiers, owners = _verifiers(host.registry)
    options = _options(verifiers, use, anchors)
    subject = read_subject(source, max_bytes, max_pixels)
    findings = {
        name: _look(name, verifier, subject, options.get(name), host, owners.get(name))
        for name, verifier in verifiers.items()
    }
    return Verification.of(subject, findings)


def _verifiers(registry: Registry) -> tuple[dict[str, Verifier], dict[str, str]]:
    owners = {name: owner for kind, name, owner in registry.owners() if kind == "verifier"}
    found = {"record": RECORD, **registry.all("verifier")}
    for name, verifier in found.items():
        if not isinstance(verifier, Verifier):
            owner = owners.get(name, "sdcore")
            raise RequestError(
                f"verifier {name!r} of plugin {owner!r} is a {type(verifier).__name__}, no sdcore.verifying.Verifier"
            )
    return found, owners


def _options(
    verifiers: Mapping[str, Verifier], use: Any, anchors: str | os.PathLike[str] | None
) -> dict[str, Options | None]:
    try:
        entries = read_uses(use)
    except ValueError as error:
        raise RequestError(f"use: {error}") from None
    classes = {name: verifier.options_class() for name, verifier in verifiers.items()}
    given: dict[str, Options | Use] = {}
    for entry in entries:
        name = _name(entry, classes)
        if name in given:
            raise RequestError(f"options of verifier {name!r} are given twice; keep one of them")
        given[name] = entry
    trusting = [name for name, kind in classes.items() if kind is not None and "anchors" in kind.model_fields]
    if anchors is not None and not trusting:
        raise RequestError(
            "anchors were given, and no installed verifier knows trust: pip install 'sdcore-watermark[c2pa]'"
        )
    extra = {"anchors": os.fspath(anchors)} if anchors is not None else {}
    return {
        name: _made(name, kind, given.get(name), extra if name in trusting else {}) for name, kind in classes.items()
    }


def _name(entry: Options | Use, classes: Mapping[str, type[Options] | None]) -> str:
    if isinstance(entry, Use):
        if entry.plugin not in classes:
            raise RequestError(f"there is no verifier {entry.plugin!r}.{nearest(entry.plugin, classes)}")
        return entry.plugin
    for name, kind in classes.items():
        if kind is type(entry):
            return name
    raise RequestError(f"no verifier has options of type {type(entry).__qualname__}; there are: {', '.join(classes)}")


def _made(
    name: str, kind: type[Options] | None, given: Options | Use | None, extra: Mapping[str, Any]
) -> Options | None:
    if kind is None:
        if isinstance(given, Use) and given.options:
            raise RequestError(f"verifier {name!r} has no options, got {', '.join(map(repr, given.options))}")
        return None
    if isinstance(given, Options):
        return given.model_copy(update=dict(extra))
    values = {} if given is None else dict(given.options)
    if values.get("anchors") is not None and extra:
        raise RequestError(f"anchors of verifier {name!r} are given twice; keep one of them")
    try:
        return kind(**values, **extra)
    except ValidationError as error:
        raise RequestError(f"options of verifier {name!r}: {explain_validation(error)}") from None


def _look(
    name: str, verifier: Verifier, subject: Subject, options: Options | None, host: PluginHost, owner: str | None
) -> Finding:
    try:
        found: Any = verifier.function()(subject, options)
    except SdcoreError as error:
        error.add_note(f"raised by the verifier {name!r}")
        raise
    except Exception as error:  # noqa: BLE001 - a picture made to break one verifier must not silence the others
        return Finding("unchecked", f"the verifier failed on it: {type(error).__name__}: {error}")
    if not isinstance(found, Finding):
        problem = f"it returned {type(found).__name__}, expected a Finding"
        raise PluginError(owner or "sdcore", host.label(owner) if owner else "sdcore", f"verifier {name}", problem)
    return found
