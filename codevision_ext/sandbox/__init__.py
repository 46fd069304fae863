"""Runs model-written code in a sandbox: a locked-down child process per call, limited in time and memory.

`zygote.py` says how it works and what is covered.
"""

from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import EarlierCall, ExecRequest, ExecResult, Isolation, Limits

__all__ = ["EarlierCall", "ExecRequest", "ExecResult", "Isolation", "Limits", "Sandbox"]
