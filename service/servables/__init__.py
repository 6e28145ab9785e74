"""One loaded model version: its warm-up, its instances, its cached answers."""
