"""Files: reading, decoding, encoding, atomic writing, locking."""
