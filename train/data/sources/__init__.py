"""Places that hold images: each names its splits and gives decoded records."""
