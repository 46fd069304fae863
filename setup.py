"""Packaging: `pip install .` gives the `codevision` command and the `verl.plugins` entry point."""

from setuptools import find_packages, setup

setup(
    name="codevision_ext",
    version="0.1.0",
    description="Thinking with images as a plugin of stock verl",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["codevision_ext*", "data_prep*"]),
    package_data={
        "codevision_ext": [
            "evaluate/published.json",
            "prompts/*",
            "experiments/rescore/*.toml",
            "prompts/code_tags/*",
            "prompts/judge/*",
            "report/*.j2",
            "report/*.css",
            "report/*.js",
            "serve/*.j2",
        ],
        "data_prep": [
            "formats/*.yaml",
            "demonstrations/*.txt",
            "curate/*.j2",
            "tasks/synth/*.txt",
            "evolve/*.j2",
            "evolve/endpoint/prompts/*.txt",
        ],
    },
    install_requires=[
        "numpy>=2",
        "pyarrow>=19",
        "Pillow",
        "opencv-python-headless",
        "pyseccomp",
        "pydantic",
        "typer",
        "rich",
        "psutil",
        "wrapt",
        "jinja2",
        "httpx",
        "openai>=2",
        "anyio>=4",
        "math-verify",
        "scipy>=1.15",
        "statsmodels>=0.14.6",
    ],
    extras_require={
        "verl": ["verl>=0.9.1,<0.10", "TransferQueue", "cachetools", "qwen_vl_utils"],
        "eval": ["anls_star", "matplotlib", "scikit-image", "scikit-learn"],
        "serve": ["fastapi", "uvicorn", "prometheus-client"],
    },
    entry_points={
        "console_scripts": ["codevision=codevision_ext.cli:main"],
        "verl.plugins": ["codevision=codevision_ext.verl_adapter.plugin"],
    },
)
