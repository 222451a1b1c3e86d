"""Detectors of Ultralytics' code and of YOLOv9's: a list of layers that ends in a head of distances to four sides."""
