"""One model version, loaded: how it is warmed up, run and held, and its cached answers."""
