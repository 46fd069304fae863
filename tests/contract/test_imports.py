"""Everything outside the folders that need the trainer's libraries is imported without them and without statistics."""

import json
import pkgutil
import subprocess
import sys

import codevision_ext
import data_prep

HEAVY = ("torch", "verl", "ray", "transformers")
STATISTICS = ("scipy", "statsmodels", "pandas")
"""Libraries that take up to two seconds, which a command pays only where it computes with them."""
WITH_TRAINER = (
    "codevision_ext.engines.sglang.",
    "codevision_ext.engines.transformers",
    "codevision_ext.engines.vllm",
    "codevision_ext.models.",
    "codevision_ext.patches.sglang_",
    "codevision_ext.preflight.",
    "codevision_ext.sandbox.ray_pool",
    "codevision_ext.verl_adapter.",
)
OUTSIDE = sorted(
    module.name
    for module in pkgutil.walk_packages(codevision_ext.__path__, "codevision_ext.")
    if not module.name.startswith(WITH_TRAINER) and not module.name.endswith(".__main__")
)


def brought_in(*modules: str, libraries: tuple[str, ...] = HEAVY) -> list[str]:
    """Those of the libraries that a fresh interpreter holds after importing the modules."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {libraries!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_the_package_brings_in_no_trainer_library() -> None:
    assert brought_in("codevision_ext") == []


def test_importing_every_module_outside_the_adapter_brings_in_no_trainer_library() -> None:
    assert "codevision_ext.rewards.rubric" in OUTSIDE
    assert brought_in(*OUTSIDE) == []


def test_importing_every_module_outside_the_adapter_brings_in_no_library_of_statistics() -> None:
    assert "codevision_ext.evaluate.statistics" in OUTSIDE
    preparation = [module.name for module in pkgutil.walk_packages(data_prep.__path__, "data_prep.")]
    assert brought_in(*OUTSIDE, *preparation, libraries=STATISTICS) == []
