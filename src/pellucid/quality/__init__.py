"""Measures of an explanation: does it follow the model, and can it be trusted?"""
