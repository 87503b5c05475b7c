"""What is remembered of the past: storage, sampling over n steps, priorities.

It may import `rl.core`.
"""
