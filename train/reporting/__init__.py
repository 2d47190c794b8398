"""What a run prints and writes: console, logs, pictures, the page."""
