"""The use case under every protocol: images in, probabilities out."""
