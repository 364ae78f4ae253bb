"""The mathematics of the loss: distances, weights, noise and timesteps, as functions of tensors."""
