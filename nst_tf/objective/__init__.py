"""The function that is minimized, and its gradient."""
