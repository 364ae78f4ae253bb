"""What tests of sdcore and of its plugins use. Nothing of it is needed to make a picture."""
