"""The parts of benchmark.py, one module each, what they compare with, and references.py, a command of its own."""
