"""What benchmarks/explanation.py measures: networks, the passes that cannot be done without, peers, and the rows."""
