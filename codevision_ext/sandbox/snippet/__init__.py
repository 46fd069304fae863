"""Runs a snippet inside a child: its source, what it hands back, and what the model is told about its errors."""
