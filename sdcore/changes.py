"""What the plugins' ``plan`` says about a run: problems, and fields that must differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PluginError, RequestError
from .host import PluginHost
from .planning import Change
from .resolve import complete

if TYPE_CHECKING:
    from .request import GenerateRequest
    from .run import Run

UNCHANGEABLE = ("seed", "seeds", "count", "use", "batch_size")
"""Fields that decide how the request is cut into batches, and who takes part."""


def plan_changes(run: Run, host: PluginHost, max_pixels: int) -> bool:
    """Call ``plan`` of every plugin in use, and make the changes that they ask for.

    Returns:
        Whether previews may leave.

    Raises:
        RequestError: with every problem that the plugins found, and every field they disagree on.
        PluginError: a plugin asks for a change that is not possible.
    """
    problems: list[str] = []
    changes: dict[str, tuple[Any, str]] = {}
    previews = True
    for name, item in host.plan(run, run.plugins):
        if not isinstance(item, Change):
            problems.append(f"{name}: {item.message}")
            continue
        previews = previews and item.previews
        for field, value in item.fields.items():
            before, other = changes.setdefault(field, (value, name))
            if before != value:
                problems.append(
                    f"{other} needs {field}={before!r}, {name} needs {field}={value!r}; leave one of them out"
                )
    if problems:
        raise RequestError("; ".join(problems))
    if changes:
        request = run.request
        for field, (value, name) in changes.items():
            request = _changed(request, field, value, name, host)
        run.request = complete(request, run.model, max_pixels)
    return previews


def _changed(request: GenerateRequest, field: str, value: Any, name: str, host: PluginHost) -> GenerateRequest:
    try:
        if field in UNCHANGEABLE:
            raise RequestError("a plugin cannot change it")
        return request.replace(**{field: value})
    except RequestError as error:
        problem = f"its change {field}={value!r} is not possible: {error}"
        raise PluginError(name, host.label(name), "plan", problem) from error
