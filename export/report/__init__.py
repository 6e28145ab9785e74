"""What an artifact says of its network: golden cases, accuracy, calibration, plots, the card."""
