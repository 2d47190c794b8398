"""Layers, one idea per file. All work on NHWC images or [batch, tokens, channels]."""
