"""Explanation methods and the engine that runs the network for them. Explains any torch module; never imports models."""
