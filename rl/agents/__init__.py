"""Compatibility: the names that CONTRIBUTING told user-defined rules to import from here in earlier versions.

They live in `rl.tabular.agent` and `rl.deep.agent`; nothing in this package imports from here.
"""
