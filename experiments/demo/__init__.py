"""A page to play with trained nets: ``python -m experiments.demo``."""
