"""Fresh environments that see the installed libraries, and of sdcore only what is installed into them.

Torch and its like are not downloaded again: a folder of links to the libraries of the running environment is put on the
path of the fresh one. The packages of sdcore are left out of it, and what is installed for development with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def link_libraries(folder: Path) -> Path:
    """A folder of links to everything in the site-packages of this process but sdcore and its plugins.

    What comes first on the path wins, as it does on import.
    """
    folder.mkdir()
    for place in map(Path, sys.path):
        if place.name not in ("site-packages", "dist-packages") or not place.is_dir():
            continue
        for entry in place.iterdir():
            hidden = entry.name.lower().startswith(("sdcore", "_sdcore", "__pycache__"))
            link = folder / entry.name
            if not hidden and entry.suffix != ".pth" and not link.is_symlink():
                link.symlink_to(entry)
    return folder


class Environment:
    """A fresh environment.

    Args:
        folder: where it is made.
        libraries: see :func:`link_libraries`.
        wheels: where pip finds the packages of sdcore.
    """

    def __init__(self, folder: Path, libraries: Path, wheels: Path) -> None:
        self.folder = folder
        self._wheels = wheels
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / "python"
        (site,) = (folder / "Lib" / "site-packages",) if os.name == "nt" else folder.glob("lib/python*/site-packages")
        (site / "libraries.pth").write_text(f"{libraries}\n")

    def install(self, *what: str | Path, deps: bool = True) -> None:
        """Install packages, and those packages of sdcore that they need; nothing is downloaded, nothing isolated."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-index"]
        command += ["--find-links", str(self._wheels), "--no-build-isolation", "--disable-pip-version-check"]
        # Compiling takes as long as all the rest.
        command += ["--no-compile", *([] if deps else ["--no-deps"]), *map(str, what)]
        self._run(command, self.folder)

    def sdcore(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run the installed command; its output.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        return self._run([str(self.python.with_name("sdcore")), *map(str, arguments)], cwd or self.folder)

    def run_python(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run Python in the environment; its output."""
        return self._run([str(self.python), *map(str, arguments)], cwd or self.folder)

    def _run(self, command: Sequence[str], cwd: Path) -> str:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "SDCORE_"))
        }
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PIP_CONFIG_FILE": os.devnull}
        environment |= {"XDG_CACHE_HOME": str(self.folder / "cache")}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout
