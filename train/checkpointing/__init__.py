"""Checkpoints: writing and reading (orbax), verifying, when to save, which is best, resuming, the lock."""
