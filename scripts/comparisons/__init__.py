"""The panels of compare.py, one module a comparison: what is compared, and how it is drawn."""
