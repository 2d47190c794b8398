"""Devices and processes: the only place that knows how many there are."""
