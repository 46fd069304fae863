"""Where model-written code runs: a forked child per call, bounded in time and memory (see `worker.py`)."""

from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult, Limits

__all__ = ["ExecRequest", "ExecResult", "Limits", "Sandbox"]
