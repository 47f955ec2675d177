"""Measurements of nst_tf against a PyTorch reference; see README.md in this folder."""
