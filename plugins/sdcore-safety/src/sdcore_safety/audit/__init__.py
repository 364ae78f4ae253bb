"""Bias audit: what a model draws for groups that a prompt names, compared."""
