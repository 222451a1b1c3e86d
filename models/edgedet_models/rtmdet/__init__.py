"""RTMDet's network."""
