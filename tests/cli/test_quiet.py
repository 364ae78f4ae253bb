"""What libraries print stays out of the user's terminal, and nothing about them is changed for good."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.logging as transformers_logging
from huggingface_hub.utils import are_progress_bars_disabled

from sdcore.quiet import quiet, quiet_process

NOISY = """
import warnings
from sdcore import Plugin, hookimpl

class Noisy(Plugin):
    name = "noisy"

    @hookimpl
    def plan(self, run):
        from transformers.utils import logging
        logging.get_logger("transformers.noise").warning("a notice of transformers")
        warnings.warn("a warning of somebody")
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(arguments, capture_output=True, text=True, cwd=cwd, env=environment, check=True)


def test_a_command_says_what_sdcore_says_and_nothing_else(tmp_path: Path, model: str) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    command = [sys.executable, "-m", "sdcore", "generate", "x", "--model", model, "--steps", "1", "--overwrite"]
    command += ["--plugin", "noisy.py", "--use", "noisy", "-o", "a.png"]
    done = run(*command, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("a.png\n", "")
    done = run(*command, "--verbose", cwd=tmp_path)
    assert "a notice of transformers" in done.stderr
    assert "a warning of somebody" in done.stderr


def test_loading_in_a_program_says_nothing(tmp_path: Path, model: str) -> None:
    code = f"from sdcore import Engine; Engine.load({model!r}).generate('x', steps=1)"
    done = run(sys.executable, "-W", "default", "-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


def state() -> tuple[object, ...]:
    levels = [logging.getLogger(name).level for name in ("transformers", "diffusers", "huggingface_hub")]
    bars = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    return (*levels, *bars, list(warnings.filters), dict(os.environ))


@pytest.mark.parametrize("context", [quiet, quiet_process])
def test_everything_is_restored(context: Any) -> None:
    logger = logging.getLogger("transformers.noise")
    before = state()

    @context()
    def inside() -> None:
        assert not logger.isEnabledFor(logging.ERROR)
        assert not transformers_logging.is_progress_bar_enabled()
        warnings.warn_explicit("from there", UserWarning, "x.py", 1, module="diffusers.models")
        with quiet():
            pass
        assert not logger.isEnabledFor(logging.ERROR)
        raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert state() == before
    assert logger.isEnabledFor(logging.WARNING)


def test_warnings_of_others_come_through() -> None:
    with quiet(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_a_user_who_wants_to_hear_them_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    with quiet_process():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
        assert os.environ["DIFFUSERS_VERBOSITY"] == "critical"
    assert "DIFFUSERS_VERBOSITY" not in os.environ


def test_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    before, inside, leave = state(), threading.Barrier(2), threading.Event()

    def other() -> None:
        with quiet():
            inside.wait()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    with quiet():
        inside.wait()
    assert not transformers_logging.is_progress_bar_enabled()  # the other is still in
    leave.set()
    thread.join()
    assert state() == before
