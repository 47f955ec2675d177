"""The optimization of an image's pixels, from coarse to fine."""
