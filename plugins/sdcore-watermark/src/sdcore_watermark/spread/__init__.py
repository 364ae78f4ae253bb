"""The scheme ``spread``: a keyed, periodic spread-spectrum mark in the pixels."""
