"""What the routes and the worker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdcore import Engine

from .accounts import Account, Accounts
from .config import Config, Policy
from .database import Database
from .engines import Engines
from .errors import not_found
from .files import DataFolder
from .jobs import Job, Jobs
from .limits import Rate
from .pictures import Pictures
from .progress import Progress
from .reading import Find
from .uploads import Uploads

if TYPE_CHECKING:
    from .worker import Worker


@dataclass
class State:
    """One running server."""

    config: Config
    folder: DataFolder
    database: Database
    accounts: Accounts
    jobs: Jobs
    pictures: Pictures
    uploads: Uploads
    engines: Engines
    progress: Progress = field(default_factory=Progress)
    rate: Rate = field(default_factory=Rate)
    streams: dict[str, int] = field(default_factory=dict)
    worker: Worker | None = None
    stopping: bool = False

    @classmethod
    def open(cls, config: Config, folder: DataFolder, engines: Engines) -> State:
        """Open a data folder that nobody else serves, and put right what a crash left."""
        database = Database(folder.root / "gallery.sqlite")
        state = cls(
            config=config,
            folder=folder,
            database=database,
            accounts=Accounts(database),
            jobs=Jobs(database),
            pictures=Pictures(database, folder),
            uploads=Uploads(database, folder),
            engines=engines,
        )
        state.jobs.recover()
        folder.sweep(state.pictures.ids(), state.uploads.files())
        return state

    def engine_of(self, owner: str) -> tuple[Engine, Policy]:
        """The engine and the policy of an owner's key, as they are now."""
        policy = next((account.policy for account in self.accounts.all() if account.id == owner), None)
        if policy is None:
            raise not_found("API key any more")
        return self.engines.of(policy)

    def finder(self, owner: str) -> Find:
        """What finds the files that an owner's requests refer to."""

        def find(kind: str, name: str) -> str:
            if kind == "upload":
                return str(self.uploads.path(owner, name))
            if name not in self.config.library:
                raise not_found(f"library entry {name[:80]!r}")
            return self.config.library[name]

        return find

    def limits_of(self, account: Account) -> Policy:
        """The policy of whoever asks."""
        return self.engines.of(account.policy)[1]

    def tell(self, job: Job) -> None:
        """Tell whoever listens of a job's new state."""
        shown = job.public(self.jobs.waiting(job))
        self.progress.tell(job.id, job.attempt, "state", shown, last=job.has_ended)

    def without_paths(self, owner: str, text: str) -> str:
        """A message for an owner: nobody is told where things lie on this machine."""
        for name, path in self.config.library.items():
            text = text.replace(path, name)
        for upload in self.uploads.list(owner):
            text = text.replace(str(self.uploads.path(owner, upload["id"])), upload["name"])
        return text.replace(str(self.folder.root), "")
