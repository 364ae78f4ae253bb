"""What a run did, plugin by plugin: ``engine.generate(..., trace=True).trace``.

A plan is traced by putting a measuring function around each of its stages before the loop begins. Without a trace
nothing is put around anything: the loop is the same code with the same stages.
"""

from __future__ import annotations

from .report import PluginChange, Span, Trace, TraceRow

__all__ = ["PluginChange", "Span", "Trace", "TraceRow"]
