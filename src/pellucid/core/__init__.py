"""What every room stands on: tables, checks, seeds, devices, errors. Imports nothing of ours."""
