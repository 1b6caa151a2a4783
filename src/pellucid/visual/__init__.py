"""Arrays in, matplotlib figure out. Every figure is in the table ``FIGURES`` and none touches matplotlib's global state."""
