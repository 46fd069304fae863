"""Rewards on the bench: records scored again, weights compared, known hacks tried."""
