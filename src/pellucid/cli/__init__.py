"""The command line: one file per verb. Nothing but typer is imported before a verb runs."""
