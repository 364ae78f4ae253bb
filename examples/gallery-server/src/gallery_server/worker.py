"""The worker: one thread that carries out the jobs. Engines on one model take turns anyway."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from sdcore import Cancelled, Engine, PluginError, Result, SdcoreError, Verdict, Withheld, replay_picture
from sdcore.events import Event, Finished, Started, Stepped, Warned

from .config import Policy
from .errors import ApiError
from .files import webp
from .jobs import Job, PictureRow
from .reading import build, names_files
from .state import State

PREVIEW_SECONDS = 0.25
log = logging.getLogger("gallery_server")


class Worker(threading.Thread):
    """Takes jobs until it is stopped."""

    def __init__(self, state: State) -> None:
        super().__init__(name="gallery-worker", daemon=True)
        self._state = state
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._running: tuple[str, threading.Event] | None = None

    def wake(self) -> None:
        """There may be a job."""
        self._wake.set()

    def cancel(self, job: str) -> None:
        """Stop a job if it is the one that runs."""
        running = self._running
        if running is not None and running[0] == job:
            running[1].set()

    def stop(self) -> None:
        """Stop; what runs goes back into the queue."""
        self._stopping.set()
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Carry out jobs, the next as soon as one has ended."""
        while not self._stopping.is_set():
            try:
                job = self._state.jobs.take()
                if job is not None:
                    self._one(job)
                    continue
            except Exception:  # a full disk, say: the queue must outlive it
                log.exception("the queue failed; trying again")
            self._wake.wait(1)
            self._wake.clear()

    def _one(self, job: Job) -> None:
        cancelled = threading.Event()
        self._running = (job.id, cancelled)
        try:
            if self._state.jobs.get(job.owner, job.id).cancel:  # between its start and the line above
                cancelled.set()
            self._state.tell(job)
            self._carry_out(job, cancelled)
        except Cancelled:
            if self._stopping.is_set() and not cancelled.is_set():
                self._state.jobs.put_back(job)
            else:
                self._end(job, "cancelled")
        except Withheld as error:
            verdicts = [verdict for verdict in error.verdicts if isinstance(verdict, Verdict)]
            self._end(job, "withheld", result={"pictures": [], "withheld": [{"reasons": _reasons(verdicts)}]})
        except ApiError as error:
            self._end(job, "failed", error.message)
        except PluginError as error:
            log.exception("job %s", job.id)
            self._end(job, "failed", f"the plugin {error.plugin} failed at {error.where}; the operator's log says why")
        except SdcoreError as error:
            self._end(job, "failed", self._state.without_paths(job.owner, str(error)))
        except Exception:
            log.exception("job %s", job.id)
            self._end(job, "failed", "something went wrong that should not; the operator's log says what")
        finally:
            self._running = None

    def _carry_out(self, job: Job, cancelled: threading.Event) -> None:
        engine, policy = self._state.engine_of(job.owner)
        watch = _Watch(self._state, job, cancelled, self._stopping)
        if job.kind == "replay":
            self._replay(job, engine, policy, watch)
        else:
            request = build(job.body, engine, policy, self._state.finder(job.owner))
            self._keep(job, engine.generate(request, on_event=watch), watch.warnings)

    def _keep(self, job: Job, result: Result, warnings: Sequence[str]) -> None:
        """Files first, then the rows and the job's end in one transaction: there is both or neither."""
        rows = []
        for picture in result.pictures:
            name = f"{job.id}-{picture.index}"
            self._state.folder.write_picture(name, picture.encode("png"), picture.image)
            flags = [{"check": verdict.check, "reason": verdict.reason} for verdict in picture.verdicts]
            rows.append(
                PictureRow(
                    id=name,
                    place=picture.index,
                    prompt=result.request.prompt,
                    seed=picture.seed,
                    width=picture.image.width,
                    height=picture.image.height,
                    record=picture.record.to_json(),
                    verdicts=json.dumps(flags),
                )
            )
        told = {
            "pictures": [row.id for row in rows],
            "withheld": [{"seed": one.seed, "reasons": _reasons(one.verdicts)} for one in result.withheld],
            "warnings": list(warnings),
        }
        self._end(job, "done" if rows else "withheld", result=told, pictures=rows)

    def _replay(self, job: Job, engine: Engine, policy: Policy, watch: _Watch) -> None:
        picture = self._state.pictures.check(job.owner, job.body["picture"])
        allow = [str(self._state.uploads.folder(job.owner)), *self._state.config.library.values()]
        allow += _files_of(engine, policy)
        found = replay_picture(
            self._state.folder.picture(picture).read_bytes(),
            engine=engine,
            allow=allow,
            on_event=watch,
        )
        told: dict[str, Any] = {"picture": picture, "identical": found.identical}
        told["differences"] = [self._state.without_paths(job.owner, text) for text in found.differences]
        if not found.identical:
            told["image"] = data_uri(found.image)
        self._end(job, "done", result=told)

    def _end(self, job: Job, state: str, message: str | None = None, **more: Any) -> None:
        ended = self._state.jobs.finish(job, state, message, **more)
        if ended is not None:
            self._state.tell(ended)


class _Watch:
    """Passes on what happens in a run, and stops it when it is cancelled."""

    def __init__(self, state: State, job: Job, cancelled: threading.Event, stopping: threading.Event) -> None:
        self._state = state
        self._job = job
        self._stop = (cancelled, stopping)
        self._batch = (1, 1)
        self._shown = 0.0
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        if any(flag.is_set() for flag in self._stop) and not isinstance(event, Finished):
            event.run.cancel()
        if isinstance(event, Started):
            self._batch = (event.batch, event.batches)
        elif isinstance(event, Warned):
            self.warnings.append(self._state.without_paths(self._job.owner, event.message))
            self._tell("warning", {"message": self.warnings[-1]})
        elif isinstance(event, Stepped):
            told: dict[str, Any] = {"step": event.step.index + 1, "steps": event.step.count}
            told |= {"batch": self._batch[0], "batches": self._batch[1]}
            now = time.monotonic()
            if now - self._shown >= PREVIEW_SECONDS and event.step.index + 1 < event.step.count:
                if images := event.preview():
                    told["preview"] = data_uri(images[0])
                self._shown = now
            self._tell("step", told)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        self._state.progress.tell(self._job.id, self._job.attempt, kind, data)


def data_uri(image: Image) -> str:
    """A small WebP for the page."""
    return "data:image/webp;base64," + base64.b64encode(webp(image)).decode()


def _reasons(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.reason or verdict.check or verdict.severity for verdict in verdicts if verdict.withholds]


def _files_of(engine: Engine, policy: Policy) -> list[str]:
    """The files that the policy itself names: a replay by its owner may open them."""
    found = []
    for use in policy.always:
        factory = engine.host.plugin(use.plugin).options
        schema = factory.model_json_schema() if factory else {}
        for option, value in use.options.items():
            if isinstance(value, str) and names_files(schema, schema.get("properties", {}).get(option, {})):
                found.append(value)
    return found
