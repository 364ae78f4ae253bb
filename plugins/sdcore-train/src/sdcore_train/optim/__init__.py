"""Optimizers, schedules of the learning rate, the average of the weights, and their state as plain files."""
