"""A distribution named `vllm` with nothing in it: verl asks for its version, and the CPU build has another name."""

from setuptools import setup

setup(name="vllm", version="0.28.0+cpu", py_modules=[])
