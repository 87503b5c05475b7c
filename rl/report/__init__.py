"""What a run shows of itself while it trains: curves, pictures, text and videos in TensorBoard, and a line on the terminal.

It reads a run and changes none. It may import everything of rl but `rl.train`.
"""
