"""What int8 costs and gains, on this processor and as on older ones."""
