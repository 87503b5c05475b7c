"""Where agents lay before: names that CONTRIBUTING told rules of your own to import, under their old paths.

They live in `rl.tabular.agent` and `rl.deep.agent`; nothing in this package imports from here.
"""
