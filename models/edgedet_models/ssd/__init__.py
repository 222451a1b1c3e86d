"""SSD (Liu et al. 2016, arXiv:1512.02325) and its relatives: torchvision's SSD300 and SSDLite, and small face nets."""
