"""The panels of compare.py, one module per comparison: what is compared and how it is plotted."""
