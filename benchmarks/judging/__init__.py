"""What the benchmark of the measures of quality is made of."""
