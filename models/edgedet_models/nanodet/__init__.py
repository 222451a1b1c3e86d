"""NanoDet-m and NanoDet-Plus (RangiLyu/nanodet, Apache-2.0): ShuffleNetV2, a light neck, bins of box sides."""
