"""Decides by a language model whether an answer that no rule decides says the same as a reference.

A judge that abstains or can't be reached gives no score: its rollout is invalid, never wrong.
"""
