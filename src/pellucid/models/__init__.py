"""One file per architecture, found by its table; building them for some data; describing any torch module."""
