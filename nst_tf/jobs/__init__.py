"""Runs from files to files: inputs, checkpoints, outputs and their record."""
