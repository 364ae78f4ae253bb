"""Loading models; the only place that knows how their files are laid out.

`load_model` takes an installed model package, a diffusers folder, a single file in the original layout or a hub
id, `from_pipeline` takes the components of a diffusers pipeline, and both give a `Model`. torch, diffusers and
transformers are imported when a model is loaded, not before.

Plugins that bring networks of their own find them with `find_source` and `find_weights`, look at them with
`read_header`, read them with `read_weights`, and make modules of them with `build_network`.
"""

from __future__ import annotations

from .build import build_network, check_finite
from .checkpoint import Header, read_header, read_weights
from .installed import InstalledModel, default_of, installed_models
from .load import from_pipeline, load_model
from .model import Model
from .sources import find_source
from .weight_files import find_weights

__all__ = [
    "Header",
    "InstalledModel",
    "Model",
    "build_network",
    "check_finite",
    "default_of",
    "find_source",
    "find_weights",
    "from_pipeline",
    "installed_models",
    "load_model",
    "read_header",
    "read_weights",
]
