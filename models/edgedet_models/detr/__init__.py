"""What detectors that end in a set of queries are made of: RT-DETR, RT-DETRv2, D-FINE and DEIM."""
