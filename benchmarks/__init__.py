"""Measurements of nst_tf, and of a PyTorch reference; see README.md in this folder."""
