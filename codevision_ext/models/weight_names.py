"""Maps verl's weight names to the names that an engine's loader expects."""

_PREFIXES = (("model.visual.", "visual."), ("model.language_model.", "model."))

STACKED = (
    (".q_proj", ".qkv_proj"),
    (".k_proj", ".qkv_proj"),
    (".v_proj", ".qkv_proj"),
    (".gate_proj", ".gate_up_proj"),
    (".up_proj", ".gate_up_proj"),
    (".attn.qkv.", ".attn.qkv_proj."),
)
"""Parts of weight names, each with the part of the engine's weight into which it is stacked."""


def engine_name(name: str) -> str:
    """Returns the name that SGLang's checkpoint loader expects for a parameter of transformers >= 5."""
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            return replacement + name[len(prefix) :]
    return name
