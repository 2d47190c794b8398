"""Where images come from: each source names its splits and gives decoded records."""
