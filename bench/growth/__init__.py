"""How convd's costs grow with what is asked of it."""
