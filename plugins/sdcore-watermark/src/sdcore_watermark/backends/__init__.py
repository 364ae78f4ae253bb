"""Schemes of other tools, under the same interface: for pictures that these tools marked, and for comparison."""
