"""Draws, converts and checks data in the schemas of CodeVision: rows for RL and demonstrations for SFT."""
