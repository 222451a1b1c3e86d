"""The commands, one module each; see `edgedet.cli`."""
