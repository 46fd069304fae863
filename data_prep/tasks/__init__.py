"""Draws tasks without a download."""
