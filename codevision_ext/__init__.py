"""CodeVision as a plugin of stock verl: a multi-turn agent loop, a sandboxed code tool and a composite reward."""

__version__ = "0.1.0"
