"""How the embedded model is made: packages of icons, concepts, captions, pictures, tokens."""
