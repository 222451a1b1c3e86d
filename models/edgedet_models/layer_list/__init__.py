"""Networks that are a list of layers, each reading earlier ones by index: YOLOv5, YOLOv7, YOLOv3.

Such a network is built from rows of our own (`rows`), or from the module tree of a pickled checkpoint
(`pickled`).
"""
