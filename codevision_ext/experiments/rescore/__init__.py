"""Scores records again under other rewards, compares weights, and measures known reward hacks."""
