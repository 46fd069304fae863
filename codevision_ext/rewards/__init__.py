"""Computes the reward: `terms` measures, `rubric` weighs and adds up, `advantages` normalises within a group."""
