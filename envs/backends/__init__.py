"""Stepping environments: `rows` side by side, of single environments (`member`) or of a VectorEnv (`vector_rows`).

Autoreset is handled only here. Results are checked: against Gymnasium's interface (`contract`), as observations (`values`),
action masks (`masks`, `vector_masks`) and per-step discounts (`discounts`). `beginning` stores the state at the start of an
episode, `running` wrappers' running statistics, `limits` time limits; `repeatable` checks that randomness follows the seed. May
import `envs.source` and `envs.errors`.
"""
