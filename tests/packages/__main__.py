"""Build the wheels of all packages, check their contents, install and use each alone, then all together.

`make test-packages`. Progress goes to stdout, a line for each thing that was checked; the exit code says whether all of
it held. Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

from PIL import Image

from sdcore.cli import COMMANDS

from .environments import Environment, link_libraries
from .wheels import ROOT, Wheel, build, problems, sources

PROBE = Path(__file__).with_name("probe.py")
NEW = "packaged-afresh"


class Report:
    """Carries checks out, and keeps count."""

    def __init__(self, count: int) -> None:
        self._start = time.monotonic()
        self._count = count
        self._done = 0
        self._saying = Lock()
        self.failed: list[str] = []

    def check(self, what: str, action: Callable[[], object]) -> bool:
        """Carry one out; an exception is a failure, the others go on."""
        problem: Exception | None = None
        try:
            action()
        except Exception as error:  # noqa: BLE001 - all failures are wanted, not the first
            problem = error
        with self._saying:
            self._done += 1
            told = "ok" if problem is None else f"FAILED\n{problem}"
            seconds = time.monotonic() - self._start
            print(f"[{self._done}/{self._count}] {seconds:4.0f} s  {what} ... {told}", flush=True)
            if problem is not None:
                self.failed.append(what)
        return problem is None

    def check_side_by_side(self, checks: Mapping[str, Callable[[], object]]) -> None:
        """Carry several out that do not touch each other, as many at once as there are processors."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.check, checks, checks.values()))


def main() -> int:
    """Do all of it."""
    folders = sources()
    report = Report(3 * len(folders) + 4)
    with tempfile.TemporaryDirectory(prefix="sdcore-packages-") as folder_of_all:
        top = Path(folder_of_all)
        out = top / "wheels"
        out.mkdir()
        wheels: list[Wheel] = []
        for folder in folders:
            name = "sdcore" if folder == ROOT else folder.name
            report.check(f"build {name}", partial(lambda f: wheels.append(build(f, out)), folder))
        version = wheels[0].metadata["Version"] if wheels else "?"
        for wheel in wheels:
            report.check(f"contents of {wheel.path.name}", partial(_contents, wheel, version))
        libraries = link_libraries(top / "libraries")
        report.check_side_by_side(
            {f"{wheel.name} alone": partial(_alone, wheel, top / wheel.name, libraries, out) for wheel in wheels}
        )
        together = Environment(top / "together", libraries, out)
        if report.check("all together", lambda: _together(together, wheels)):
            report.check("a picture by the embedded model", lambda: _picture(together))
            report.check("sdcore new, from the wheel", lambda: _new(together, top))
            report.check("sdcore new --single-file, from the wheel", lambda: _new_file(together, top))
    print(
        f"{len(report.failed)} failed: {', '.join(report.failed)}" if report.failed else "all packages install and work"
    )
    return bool(report.failed)


def _contents(wheel: Wheel, version: str) -> None:
    found = problems(wheel, version)
    if found:
        raise AssertionError("\n".join(f"  {wheel.path.name}: {problem}" for problem in found))


def _alone(wheel: Wheel, folder: Path, libraries: Path, wheels: Path) -> None:
    environment = Environment(folder, libraries, wheels)
    environment.install(wheel.path)
    listed = _listed(environment)
    assert set(wheel.plugins) <= set(listed), f"sdcore plugins lists {sorted(listed)}"
    names = ["--packages", wheel.module, "--plugins", *wheel.plugins, "--optional", *wheel.optional]
    environment.run_python(PROBE, *names)
    if "check" in COMMANDS:
        for plugin in wheel.plugins:
            environment.sdcore("check", plugin)


def _together(environment: Environment, wheels: list[Wheel]) -> None:
    environment.install(*(wheel.path for wheel in wheels))
    expected = {plugin for wheel in wheels for plugin in wheel.plugins}
    assert set(_listed(environment)) == expected
    # Here what the extras bring of sdcore is installed too, so that every module can be imported.
    missing = {name for wheel in wheels for name in wheel.optional if not name.startswith("sdcore")}
    modules = [wheel.module for wheel in wheels]
    environment.run_python(PROBE, "--packages", *modules, "--plugins", *expected, "--optional", *sorted(missing))


def _listed(environment: Environment) -> dict[str, str]:
    """Name to version of the plugins of an environment, all of which must be usable."""
    records = json.loads(environment.sdcore("plugins", "--json"))
    broken = [f"{record['name']}: {record['error']}" for record in records if record["state"] != "ok"]
    assert not broken, broken
    return {record["name"]: record["version"] for record in records}


def _picture(environment: Environment, *arguments: str, out: str = "apple.png") -> Image.Image:
    environment.sdcore("generate", "a red apple, 3d style", "--seed", "3", "--steps", "8", "-o", out, *arguments)
    environment.sdcore("record", out)
    image = Image.open(environment.folder / out).convert("RGB")
    assert len(image.getcolors(maxcolors=1 << 24) or ()) > 100, "the picture is nearly of one colour"
    return image


def _new(environment: Environment, top: Path) -> None:
    environment.sdcore("new", NEW, "--out", top)
    environment.install(top / f"sdcore-{NEW}", deps=False)
    assert NEW in _listed(environment)
    environment.run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=top / f"sdcore-{NEW}")
    changed = _picture(environment, "--use", f"{NEW}:warmth=1", out="warm.png")
    assert changed.tobytes() != Image.open(environment.folder / "apple.png").convert("RGB").tobytes()


def _new_file(environment: Environment, top: Path) -> None:
    environment.sdcore("new", "in-one-file", "--single-file", "--out", top)
    file = str(top / "in_one_file.py")
    environment.sdcore("explain", "a red apple", "--plugin", file, "--use", "in-one-file")


if __name__ == "__main__":
    sys.exit(main())
