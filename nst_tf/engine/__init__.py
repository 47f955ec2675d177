"""The optimization over an image's pixels, from coarse to fine."""
