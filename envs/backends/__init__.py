"""What steps environments: `rows` side by side, of single environments (`member`) or of a VectorEnv (`vector_rows`).

They alone know autoreset, and check what comes back: by the interface (`contract`), as observations (`values`), as action
masks (`masks`, `vector_masks`) and as discounts of single steps (`discounts`). `beginning` is what an episode begins from,
`running` wrappers' running statistics, `limits` time limits, `repeatable` asks whether randomness follows the seed. It may
import `envs.source` and `envs.errors`.
"""
