"""How well subjects are learnt, and what that does to their class: measured on icons that the model has never seen."""
