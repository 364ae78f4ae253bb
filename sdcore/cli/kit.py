"""What commands of plugins are made of: the flags, the engine, the progress and the output of sdcore's own commands.

A plugin adds a command in its hook ``register``::

    registry.add("cli_command", "upscale", fill)

where ``fill(parser)`` adds arguments to an ``argparse`` parser and sets its ``func``, a function of the parsed
arguments that returns the exit code (None is 0). The first line of its docstring is what ``sdcore --help`` shows.
Errors that are :class:`sdcore.SdcoreError` are printed without a traceback.
"""

from __future__ import annotations

from .engine_flags import add_engine_flags, load_engine
from .generate import add_output_flags, draw
from .options_flags import add_options_flags, flag_of, options_of, read_flag
from .output import Target
from .progress import Progress, open_bar
from .request_flags import add_request_flags, request_of
from .terminal import at_ctrl_c, cancelled_by_ctrl_c, complain, say, table, to_json

__all__ = [
    "Progress",
    "Target",
    "add_engine_flags",
    "add_options_flags",
    "add_output_flags",
    "add_request_flags",
    "at_ctrl_c",
    "cancelled_by_ctrl_c",
    "complain",
    "draw",
    "flag_of",
    "load_engine",
    "open_bar",
    "options_of",
    "read_flag",
    "request_of",
    "say",
    "table",
    "to_json",
]
