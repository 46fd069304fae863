"""Data in the schemas of CodeVision: rows for RL, trajectories for SFT, and the small reading task that draws both."""
