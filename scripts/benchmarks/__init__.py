"""The parts of benchmark.py, one module each, the baselines they compare with, and the command references.py."""
