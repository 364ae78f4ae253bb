"""Training plugins that act on the loss, the noise and the timesteps."""
