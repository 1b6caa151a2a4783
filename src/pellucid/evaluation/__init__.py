"""Is the model any good? Arrays of truth and prediction in, dataclasses out, always beside the trivial answer.

A measure is a function of (truth, prediction) in the table of measures; the reports are collections of measures.
"""
