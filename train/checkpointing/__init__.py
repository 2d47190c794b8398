"""Checkpoints: written and read (orbax), verified, locked, resumed from, started from."""
