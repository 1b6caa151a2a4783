"""Networks of fully connected neurons."""
