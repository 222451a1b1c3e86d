"""YOLOv6's blocks, networks and sizes, and their rebuilding from a pickled module tree."""
