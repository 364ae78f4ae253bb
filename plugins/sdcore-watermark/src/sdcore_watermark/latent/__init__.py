"""The scheme ``latent``: a mark in the noise that a picture is drawn from, which the picture's pixels follow."""
