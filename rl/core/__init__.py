"""What every family of agents shares, and which knows none of them.

registry: agents by name, as JSON and back. It imports nothing of rl but `rl.explore`; tables, tiles and networks import it.
"""
