"""Training plugins: what is trained, and what else acts on a training.

A training plugin is a subclass of :class:`Training`; a package brings it by the hook ``register`` of its plugin::

    registry.add("training", "min-snr", "my_package.training:MinSNRTraining")

(the class itself will do too, but then every engine that starts imports it),
and a training uses it if its options are in ``use``. One instance is made for each use, so it may hold state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sdcore import Contributions
from sdcore import Options as AnyOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore import Plugin

    from .config import TrainConfig
    from .events import TrainEvent
    from .job import Job
    from .stages import Trained


class Training:
    """Base of training plugins. Override what you need.

    Attributes:
        name: as users write it.
        Options: the options class.
        command: True makes it a command, ``sdcore train NAME``: it is what is trained.
        about: one line for people.
        defaults: values of the configuration where the user gives none, by dotted name:
            ``{"optimizer.learning_rate": 1e-4}``.
        writes_model: True if ``save`` writes the whole model. Weights that are not trained are then kept on the CPU as
            they were loaded, where the training rounds them: ``job.before``.
    """

    name: ClassVar[str] = ""
    Options: ClassVar[type[AnyOptions]] = AnyOptions
    command: ClassVar[bool] = False
    about: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, object]] = {}
    writes_model: ClassVar[bool] = False

    def __init__(self, options: AnyOptions) -> None:
        self.options = options

    def configure(self, config: TrainConfig) -> TrainConfig | None:
        """Change the configuration, before anything is loaded. None leaves it."""
        return None

    def check(self, job: Job) -> Iterable[str]:
        """Say what cannot work, when the model is loaded and before the data is read."""
        return ()

    def prepare(self, job: Job) -> None:
        """Do work that comes before the data is read, such as drawing class pictures with the model."""

    def parameters(self, job: Job) -> Iterable[Trained]:
        """Say which weights are trained; new networks may be made here."""
        return ()

    def stages(self, job: Job) -> Contributions:
        """Contribute stages to the ports of :mod:`sdcore_train.ports`."""
        return None

    def sampling(self, job: Job) -> Iterable[tuple[type[Plugin], Any]]:
        """Engine plugins, with options, that sample pictures need to show what is trained."""
        return ()

    def samples(self, job: Job) -> Sequence[tuple[str, Sequence[Image]]] | None:
        """Draw the sample pictures: rows of (label, pictures). None leaves it to the engine and the prompts."""
        return None

    def event(self, job: Job, event: TrainEvent) -> None:
        """Be told of an event: read-only."""

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """Write what the training made into ``folder``, usable by the engine at once; returns the paths."""
        return ()

    def state(self, job: Job) -> Mapping[str, object]:
        """Anything JSON that must be the same when a training is resumed."""
        return {}

    def close(self, job: Job) -> None:
        """Put the model back as it was found. Called at the end, also after an error, last plugin first."""
