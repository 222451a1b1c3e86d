"""Boards and images: profiling over ssh, contexts for device images."""
