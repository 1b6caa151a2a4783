"""What the benchmark of methods that alter the input is made of."""
