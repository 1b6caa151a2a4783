"""Data: readers (images, tables, DNA), bundled sets, splits, augmentation, and preparations fitted on training rows only."""
