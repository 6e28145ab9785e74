"""The protocols: messages in and out of the use case, whatever transport carries them."""
