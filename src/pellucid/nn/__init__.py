"""Layers that torch lacks and two or more models use, and the table of activations."""
