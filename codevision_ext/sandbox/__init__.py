"""Where model-written code runs: a forked, locked-down child per call, bounded in time and memory (see `zygote.py`)."""

from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import EarlierCall, ExecRequest, ExecResult, Isolation, Limits

__all__ = ["EarlierCall", "ExecRequest", "ExecResult", "Isolation", "Limits", "Sandbox"]
