"""The log survives kills and full disks, and starts again where the training does."""

import contextlib
import json
import resource
import subprocess
import sys

import pytest
from sdcore_train.monitor.log import Log, read_log

from sdcore import OutputError


def test_rows_come_back_and_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "log.jsonl"
    row = {"step": 1, "loss": 0.1 + 0.2, "terms": {"mse": 1e-300, "über": float("nan")}, "rate": float("inf")}
    with Log(path) as log:
        log.write(row)
        log.write({"step": 2, "loss": 3})
    assert read_log(path) == [
        {"step": 1, "loss": 0.1 + 0.2, "terms": {"mse": 1e-300, "über": None}, "rate": None},
        {"step": 2, "loss": 3},
    ]
    json.loads(path.read_text().splitlines()[0], parse_constant=pytest.fail)
    assert read_log(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("torn", ['{"step": 40, "lo', '{"step"', "\x00\x00\x00", "[1]", '{"loss": 1}', "é"[:1]])
def test_a_torn_line_is_left_out_and_the_next_row_is_not_lost(torn, tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        for step in (10, 20, 30):
            log.write({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write(torn)
    assert [row["step"] for row in read_log(path)] == [10, 20, 30]
    with Log(path, start=30) as log:
        assert [row["step"] for row in log.rows] == [10, 20, 30]
        log.write({"step": 40, "loss": 1.0})
        assert [row["step"] for row in log.rows] == [10, 20, 30, 40]
    assert [row["step"] for row in read_log(path)] == [10, 20, 30, 40]


def test_going_on_drops_the_rows_that_are_done_again(tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        for step in range(10, 80, 10):
            log.write({"step": step})
    with Log(path, start=50) as log:
        assert [row["step"] for row in read_log(path)] == [10, 20, 30, 40, 50]
        log.write({"step": 60})
    assert [row["step"] for row in read_log(path)] == [10, 20, 30, 40, 50, 60]
    with Log(path):
        assert read_log(path) == []


def test_every_row_is_in_the_file_when_the_process_is_killed(tmp_path):
    path = tmp_path / "log.jsonl"
    code = (
        "import os, sys\nfrom sdcore_train.monitor.log import Log\n"
        "log = Log(sys.argv[1])\nfor step in range(5):\n    log.write({'step': step})\nos.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60).returncode == -9
    assert [row["step"] for row in read_log(path)] == [0, 1, 2, 3, 4]


@contextlib.contextmanager
def largest_file(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_later_rows_are_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.write({"step": 1})
        with largest_file(path.stat().st_size + 4), pytest.raises(OutputError, match="cannot be written"):
            log.write({"step": 2, "text": "x" * 50})
        assert [row["step"] for row in read_log(path)] == [1]
        log.write({"step": 3})
    assert [row["step"] for row in read_log(path)][0::2][-1] == 3
    assert {row["step"] for row in read_log(path)} >= {1, 3}


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OutputError):
        Log(tmp_path / "no" / "log.jsonl")
