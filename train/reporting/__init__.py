"""What a run shows and leaves behind: console, logs, pictures."""
