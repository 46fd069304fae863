"""Tasks that are drawn without a download."""
