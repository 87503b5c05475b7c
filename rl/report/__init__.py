"""Reporting of runs during training: curves, pictures, text and videos in TensorBoard, and the progress text on the terminal.

Reports do not affect results. This package may import everything of rl except `rl.train`.
"""
