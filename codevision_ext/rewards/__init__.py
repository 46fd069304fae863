"""Computes the reward: `terms` measures, `rubric` weighs and sums, `advantages` normalises within a group."""
