"""What steps environments: `rows` side by side, of single environments (`member`) or of a VectorEnv (`vector_rows`).

They alone know autoreset, and check what comes back: by the interface (`contract`), as observations (`values`) and as
action masks (`masks`, `vector_masks`). Besides: wrappers' running statistics (`running`), time limits (`limits`), and
whether an environment's randomness follows its seed (`repeatable`). It may import `envs.source` and `envs.errors`.
"""
