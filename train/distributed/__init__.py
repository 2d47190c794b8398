"""Devices and processes: the only package that knows how many there are."""
