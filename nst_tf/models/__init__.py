"""The networks: VGG19, the AdaIN decoder, and their weights."""
