"""BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047): faces and six keypoints of each, front and back camera."""
