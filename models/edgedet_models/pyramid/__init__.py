"""Detectors on a feature pyramid (Lin et al. 2017): torchvision's RetinaNet and FCOS."""
