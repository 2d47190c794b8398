"""What `train.benchmark` and `train.models` measure and count."""
