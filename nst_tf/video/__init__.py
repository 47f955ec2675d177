"""Videos: each frame starts from the one before, moved along the optical flow."""
