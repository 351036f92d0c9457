"""What every run of a network needs, search or training: device, randomness, precision, losses."""
