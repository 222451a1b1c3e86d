"""Backbones of the official DETR-like checkpoints, built from the shapes in a state dict."""
