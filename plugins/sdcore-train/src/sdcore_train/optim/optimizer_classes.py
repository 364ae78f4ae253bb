"""From the name of an optimizer to its class."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from sdcore import RequestError
from sdcore.plugin import nearest

if TYPE_CHECKING:
    import torch

NAMES = {
    "adamw": "torch.optim.AdamW",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "adafactor": "transformers.optimization.Adafactor",
    "prodigy": "prodigyopt.Prodigy",
    "sgd": "torch.optim.SGD",
}
"""Names of optimizers, and where their classes are."""

_EXTRAS = {"bitsandbytes": "8bit", "prodigyopt": "prodigy"}


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The class of an optimizer, by one of `NAMES` or by its path, such as ``torch.optim.RAdam``.

    Raises:
        RequestError: the name is not known, the package is not installed, or the path leads to no optimizer.
    """
    import torch

    path = NAMES.get(name, name)
    module, _, attribute = path.rpartition(".")
    if not module:
        raise RequestError(
            f"no optimizer is called {name!r}.{nearest(name, NAMES)} "
            "A class is named with its module: torch.optim.RAdam"
        )
    package = module.partition(".")[0]
    if package in _EXTRAS and importlib.util.find_spec(package) is None:
        raise RequestError(
            f"optimizer {name!r} needs {package}, which is not installed: "
            f'pip install "sdcore-train[{_EXTRAS[package]}]"'
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError, OSError) as error:
        raise RequestError(
            f"optimizer {name!r} cannot be imported: {error}. Give the path of a class that Python can import, "
            f"or one of: {', '.join(NAMES)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise RequestError(f"{name!r} is no optimizer: it is no subclass of torch.optim.Optimizer")
    return found
