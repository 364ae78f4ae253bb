"""Packages that really install: `python -m tests.packages` builds all wheels, and installs and uses them."""
