"""The convolutions of VGG19."""

LAYERS: dict[str, int] = {
    f"block{block}_conv{conv}": channels
    for block, (convolutions, channels) in enumerate(
        [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)], start=1
    )
    for conv in range(1, convolutions + 1)
}
"""Names in Keras and numbers of channels (Simonyan and Zisserman 2015, table 1, column E)."""
