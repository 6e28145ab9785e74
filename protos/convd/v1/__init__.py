"""Version 1 of convd's own API."""
