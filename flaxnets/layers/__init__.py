"""Layers, one idea a file. All work on NHWC images or [batch, tokens, channels]."""
