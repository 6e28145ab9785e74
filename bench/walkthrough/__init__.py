"""`make walkthrough`: from a matrix of pixels to a trained network, every number computed."""
