"""The declarative study: a YAML file in, a run directory and a report out."""
