"""EfficientDet (Tan et al. 2020, arXiv:1911.09070) with the key names of effdet and timm, d and lite versions."""
