"""CenterNet (Zhou et al. 2019, arXiv:1904.07850): objects as peaks of a heat map, without suppression."""
