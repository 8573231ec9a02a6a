"""The model: encoder and taps, branches, embeddings, identity criteria, the deployed embedder."""
