"""Loading models; the only place that knows how their files are laid out.

`load_model` takes an installed model package, a diffusers folder, a single file in the original layout or a hub
id, `from_pipeline` takes the components of a diffusers pipeline, and both give a `Model`. torch, diffusers and
transformers are imported when a model is loaded, not before.
"""

from __future__ import annotations

from .installed import InstalledModel, installed_models
from .load import from_pipeline, load_model
from .model import Model

__all__ = ["InstalledModel", "Model", "from_pipeline", "installed_models", "load_model"]
