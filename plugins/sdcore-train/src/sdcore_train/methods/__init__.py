"""What this package trains itself: whole models, text encoders, the VAE."""
