"""How the embedded model is measured: prompts, a classifier, a judge of backgrounds, distances, sheets."""
